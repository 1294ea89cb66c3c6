"""Image and video models: classifiers, encoders, CLIP and SigLIP, depth, super-resolution, keypoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers import (
    CLIPConfig,
    CLIPModel,
    DPTConfig,
    DPTForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
    ResNetConfig,
    ResNetForImageClassification,
    SiglipConfig,
    SiglipModel,
    SuperGlueConfig,
    SuperGlueForKeypointMatching,
    SuperPointConfig,
    Swin2SRConfig,
    Swin2SRForImageSuperResolution,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from tests.tiny.generation import spread, word_tokenizer

LABELS = ("cat", "dog", "house", "ball", "city", "tree")
_LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def processor_of(name: str) -> Any:
    """An image processor that needs no torchvision, under whatever name this version of transformers has it."""
    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


def labels() -> dict[str, Any]:
    return {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def vit_classifier(folder: Path) -> None:
    config = ViTConfig(**_LAYERS, image_size=32, patch_size=8, **labels())
    spread(ViTForImageClassification(config), 1).save_pretrained(folder)
    processor_of("ViTImageProcessor")(size=square(32)).save_pretrained(folder)


def resnet_classifier(folder: Path) -> None:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **labels())
    spread(ResNetForImageClassification(config), 2, 0.1).save_pretrained(folder)
    processor_of("ViTImageProcessor")(size=square(32)).save_pretrained(folder)


def vit_encoder(folder: Path) -> None:
    spread(ViTModel(ViTConfig(**_LAYERS, image_size=32, patch_size=8)), 3).save_pretrained(folder)
    processor_of("ViTImageProcessor")(size=square(32)).save_pretrained(folder)


def clip(folder: Path) -> None:
    """Texts are pooled at their end token. (An end token of number 2 would mean CLIP's own vocabulary.)"""
    tokenizer = word_tokenizer(("<end>",), suffix="<end>")
    text = {
        **_LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 40,
        "eos_token_id": 4,
        "pad_token_id": 0,
    }
    vision = {**_LAYERS, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config={**text, "bos_token_id": 1}, vision_config=vision, projection_dim=16)
    spread(CLIPModel(config), 4).save_pretrained(folder)
    tokenizer.model_max_length = 40
    tokenizer.save_pretrained(folder)
    processor_of("CLIPImageProcessor")(size={"shortest_edge": 32}, crop_size=square(32)).save_pretrained(folder)


def siglip(folder: Path) -> None:
    """Every text is padded to 64 tokens, and each label scores by itself."""
    tokenizer = word_tokenizer(prefix="", suffix="</s>")
    text = {**_LAYERS, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "pad_token_id": 0}
    vision = {**_LAYERS, "image_size": 32, "patch_size": 8}
    config = SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision)
    spread(SiglipModel(config), 5).save_pretrained(folder)
    tokenizer.model_max_length = 64
    tokenizer.model_input_names = ["input_ids"]
    tokenizer.save_pretrained(folder)
    processor_of("SiglipImageProcessor")(size=square(32)).save_pretrained(folder)


def dpt(folder: Path) -> None:
    config = DPTConfig(
        **{**_LAYERS, "num_hidden_layers": 4}, image_size=32, patch_size=8, is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        reassemble_factors=[4, 2, 1, 0.5],
    )  # fmt: skip
    spread(DPTForDepthEstimation(config), 6, 0.2).save_pretrained(folder)
    processor_of("DPTImageProcessor")(size=square(32)).save_pretrained(folder)


def glpn(folder: Path) -> None:
    """It keeps the size of its images: those of other sizes cannot share a forward."""
    config = GLPNConfig(
        num_encoder_blocks=4, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=8, sr_ratios=[8, 4, 2, 1],
    )  # fmt: skip
    spread(GLPNForDepthEstimation(config), 7, 0.3).save_pretrained(folder)
    processor_of("GLPNImageProcessor")(size_divisor=32).save_pretrained(folder)


def swin2sr(folder: Path) -> None:
    config = Swin2SRConfig(
        image_size=16, patch_size=1, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, mlp_ratio=2.0,
        upscale=2,
    )  # fmt: skip
    spread(Swin2SRForImageSuperResolution(config), 8, 0.1).save_pretrained(folder)
    processor_of("Swin2SRImageProcessor")(pad_size=4).save_pretrained(folder)


def superglue(folder: Path) -> None:
    config = SuperGlueConfig(
        hidden_size=32, keypoint_encoder_sizes=[8, 16], gnn_layers_types=["self", "cross"], num_attention_heads=2,
        sinkhorn_iterations=5, matching_threshold=0.0,
        keypoint_detector_config=SuperPointConfig(
            encoder_hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, descriptor_decoder_dim=32, max_keypoints=40,
            keypoint_threshold=0.001,
        ),
    )  # fmt: skip
    spread(SuperGlueForKeypointMatching(config), 9, 0.3).save_pretrained(folder)
    processor_of("SuperGlueImageProcessor")(size=square(48)).save_pretrained(folder)


def videomae(folder: Path) -> None:
    config = VideoMAEConfig(
        **_LAYERS, image_size=16, patch_size=8, num_frames=4, tubelet_size=2, decoder_hidden_size=16,
        decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=32, **labels(),
    )  # fmt: skip
    spread(VideoMAEForVideoClassification(config), 10).save_pretrained(folder)
    processor_of("VideoMAEImageProcessor")(size={"shortest_edge": 16}, crop_size=square(16)).save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "vit-classifier": vit_classifier,
    "resnet-classifier": resnet_classifier,
    "vit-encoder": vit_encoder,
    "clip": clip,
    "siglip": siglip,
    "dpt": dpt,
    "glpn": glpn,
    "swin2sr": swin2sr,
    "superglue": superglue,
    "videomae": videomae,
}
TASKS = {
    "vit-classifier": "image-classification",
    "resnet-classifier": "image-classification",
    "vit-encoder": "image-feature-extraction",
    "clip": "zero-shot-image-classification",
    "siglip": "zero-shot-image-classification",
    "dpt": "depth-estimation",
    "glpn": "depth-estimation",
    "swin2sr": "image-to-image",
    "superglue": "keypoint-matching",
    "videomae": "video-classification",
}
