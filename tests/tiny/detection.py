"""Models that find things: segmentation of all kinds, detectors, SAM, and readers of documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrForSegmentation,
    DonutSwinConfig,
    DonutSwinModel,
    GPT2Config,
    GPT2LMHeadModel,
    LayoutLMConfig,
    LayoutLMForQuestionAnswering,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    OwlViTConfig,
    OwlViTForObjectDetection,
    ResNetConfig,
    SamConfig,
    SamModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
    VisionEncoderDecoderModel,
    YolosConfig,
    YolosForObjectDetection,
)

from tests.tiny.generation import spread, word_tokenizer
from tests.tiny.vision import labels, processor_of, square

_LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def segformer(folder: Path) -> None:
    config = SegformerConfig(
        num_encoder_blocks=4, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
        sr_ratios=[8, 4, 2, 1], decoder_hidden_size=16, **labels(),
    )  # fmt: skip
    spread(SegformerForSemanticSegmentation(config), 21).save_pretrained(folder)
    processor_of("SegformerImageProcessor")(size=square(64)).save_pretrained(folder)


def _detr_config() -> DetrConfig:
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    return DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, d_model=32,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=8, decoder_attention_heads=8, encoder_ffn_dim=32,
        decoder_ffn_dim=32, num_queries=6, **labels(),
    )  # fmt: skip


def _detr_processor(folder: Path) -> None:
    """It keeps the proportions of its images: those of other sizes cannot share a forward."""
    processor_of("DetrImageProcessor")(size={"shortest_edge": 48, "longest_edge": 96}).save_pretrained(folder)


def detr(folder: Path) -> None:
    spread(DetrForObjectDetection(_detr_config()), 22, 0.2).save_pretrained(folder)
    _detr_processor(folder)


def detr_panoptic(folder: Path) -> None:
    spread(DetrForSegmentation(_detr_config()), 23, 0.2).save_pretrained(folder)
    _detr_processor(folder)


def mask2former(folder: Path) -> None:
    backbone = SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=32, num_queries=6, **labels(),
    )  # fmt: skip
    spread(Mask2FormerForUniversalSegmentation(config), 24, 0.2).save_pretrained(folder)
    processor_of("Mask2FormerImageProcessor")(size=square(64)).save_pretrained(folder)


def yolos(folder: Path) -> None:
    config = YolosConfig(**_LAYERS, image_size=[48, 48], patch_size=8, num_detection_tokens=5, **labels())
    spread(YolosForObjectDetection(config), 25, 0.3).save_pretrained(folder)
    processor_of("YolosImageProcessor")(size=square(48)).save_pretrained(folder)


def owlvit(folder: Path) -> None:
    tokenizer = word_tokenizer(("<end>",), suffix="<end>")
    text = {**_LAYERS, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 4}
    config = OwlViTConfig(
        text_config={**text, "bos_token_id": 1, "pad_token_id": 0},
        vision_config={**_LAYERS, "image_size": 48, "patch_size": 8},
        projection_dim=32,
    )
    spread(OwlViTForObjectDetection(config), 26, 0.3).save_pretrained(folder)
    tokenizer.model_max_length = 16
    tokenizer.save_pretrained(folder)
    processor_of("OwlViTImageProcessor")(size=square(48), crop_size=square(48)).save_pretrained(folder)


def sam(folder: Path) -> None:
    config = SamConfig(
        vision_config={
            **_LAYERS, "image_size": 64, "patch_size": 8, "output_channels": 16, "window_size": 4, "mlp_dim": 32,
            "global_attn_indexes": [1], "num_pos_feats": 8, "use_rel_pos": False,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4, "image_embedding_size": 8,
        },
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    spread(SamModel(config), 27, 0.4).save_pretrained(folder)
    processor_of("SamImageProcessor")(
        size={"longest_edge": 64}, pad_size=square(64), mask_size={"longest_edge": 16}
    ).save_pretrained(folder)


def layoutlm(folder: Path) -> None:
    tokenizer = word_tokenizer(cls_token="<s>", sep_token="</s>", pair="<s> $A </s> $B:1 </s>:1")
    config = LayoutLMConfig(**_LAYERS, vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=0)
    spread(LayoutLMForQuestionAnswering(config), 28).save_pretrained(folder)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)


def donut(folder: Path) -> None:
    """A Donut encoder before GPT-2: the question in the decoder's prompt, the answer up to a closing tag."""
    tags = ("<s_docvqa>", "<s_question>", "</s_question>", "<s_answer>", "</s_answer>")
    tokenizer = word_tokenizer(tags, prefix="")
    tokenizer.add_special_tokens({"additional_special_tokens": list(tags)})
    encoder = DonutSwinModel(
        DonutSwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
    )
    decoder = GPT2LMHeadModel(
        GPT2Config(
            n_embd=16,
            n_layer=1,
            n_head=2,
            n_positions=64,
            vocab_size=len(tokenizer),
            add_cross_attention=True,
            is_decoder=True,
            bos_token_id=1,
            eos_token_id=2,
        )  # fmt: skip
    )
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    model.config.decoder_start_token_id = 1
    model.config.pad_token_id = 0
    for name, value in {"decoder_start_token_id": 1, "pad_token_id": 0, "eos_token_id": 2, "max_length": 24}.items():
        setattr(model.generation_config, name, value)
    spread(model, 29, 0.4).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor_of("DonutImageProcessor")(size=square(32), do_align_long_axis=False).save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "segformer": segformer,
    "detr": detr,
    "detr-panoptic": detr_panoptic,
    "mask2former": mask2former,
    "yolos": yolos,
    "owlvit": owlvit,
    "sam": sam,
    "layoutlm": layoutlm,
    "donut": donut,
}
TASKS = {
    "segformer": "image-segmentation",
    "detr": "object-detection",
    "detr-panoptic": "image-segmentation",
    "mask2former": "image-segmentation",
    "yolos": "object-detection",
    "owlvit": "zero-shot-object-detection",
    "sam": "mask-generation",
    "layoutlm": "document-question-answering",
    "donut": "document-question-answering",
}
