"""Models that read texts with images or sounds: captions, questions about images, chats, decisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    ViltConfig,
    ViltForQuestionAnswering,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
    WhisperFeatureExtractor,
)

from tests.tiny.generation import CHAT_TEMPLATE, spread, word_tokenizer
from tests.tiny.vision import processor_of, square

_LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
ANSWERS = ("yes", "no", "two", "red", "a ball", "london")


def captioner(folder: Path) -> None:
    """ViT before GPT-2, as the captioning models of old."""
    tokenizer = word_tokenizer(prefix="")
    encoder = ViTModel(ViTConfig(**_LAYERS, image_size=32, patch_size=8))
    decoder = GPT2LMHeadModel(
        GPT2Config(
            n_embd=32,
            n_layer=2,
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
    for name, value in {"decoder_start_token_id": 1, "pad_token_id": 0, "eos_token_id": 2, "max_length": 16}.items():
        setattr(model.generation_config, name, value)
    spread(model, 41).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor_of("ViTImageProcessor")(size=square(32)).save_pretrained(folder)


def blip(folder: Path) -> None:
    tokenizer = word_tokenizer(suffix="</s>")
    text = {**_LAYERS, "vocab_size": len(tokenizer), "max_position_embeddings": 40, "bos_token_id": 1}
    config = BlipConfig(
        text_config={
            **text, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0, "encoder_hidden_size": 32,
            "projection_dim": 16, "is_decoder": True,
        },
        vision_config={**_LAYERS, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    spread(BlipForConditionalGeneration(config), 42).save_pretrained(folder)
    BlipProcessor(processor_of("BlipImageProcessor")(size=square(32)), tokenizer).save_pretrained(folder)


def vilt(folder: Path) -> None:
    """It chooses among the answers that it knows."""
    tokenizer = word_tokenizer(suffix="</s>", cls_token="<s>", sep_token="</s>")
    config = ViltConfig(
        **_LAYERS, vocab_size=len(tokenizer), image_size=32, patch_size=8, max_position_embeddings=40,
        max_image_length=-1, id2label=dict(enumerate(ANSWERS)), label2id={name: i for i, name in enumerate(ANSWERS)},
    )  # fmt: skip
    spread(ViltForQuestionAnswering(config), 43).save_pretrained(folder)
    tokenizer.model_max_length = 40
    tokenizer.save_pretrained(folder)
    processor_of("ViltImageProcessor")(size={"shortest_edge": 32}, size_divisor=8).save_pretrained(folder)


_CHAT_WITH_FILES = (
    "<s>{% for message in messages %}{{ message['role'] }} : "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% elif part['type'] == 'audio' %}<audio_start><audio><audio_end> "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endif %} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


def _llama(tokenizer: Any) -> dict[str, Any]:
    return {
        **_LAYERS, "num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 256,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def llava(folder: Path) -> None:
    tokenizer = word_tokenizer(("<image>",), prefix="", padding_side="left")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.model_max_length = 256
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_LAYERS, image_size=32, patch_size=8),
        text_config=LlamaConfig(**_llama(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    model = spread(LlavaForConditionalGeneration(config), 44)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    LlavaProcessor(
        processor_of("CLIPImageProcessor")(size={"shortest_edge": 32}, crop_size=square(32)),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_CHAT_WITH_FILES,
    ).save_pretrained(folder)


def qwen2_audio(folder: Path) -> None:
    tokenizer = word_tokenizer(("<audio>", "<audio_start>", "<audio_end>"), prefix="", padding_side="left")
    names = ["<audio>", "<audio_start>", "<audio_end>"]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    tokenizer.model_max_length = 1024
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder", "d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32, "num_mel_bins": 16, "max_source_positions": 1500,
        },
        text_config={"model_type": "qwen2", **_llama(tokenizer), "max_position_embeddings": 1024},
        audio_token_index=tokenizer.convert_tokens_to_ids("<audio>"),
    )  # fmt: skip
    model = spread(Qwen2AudioForConditionalGeneration(config), 45, 0.2)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    Qwen2AudioProcessor(
        feature_extractor=WhisperFeatureExtractor(feature_size=16),
        tokenizer=tokenizer,
        chat_template=_CHAT_WITH_FILES,
        audio_token="<audio>",
        audio_bos_token="<audio_start>",
        audio_eos_token="<audio_end>",
    ).save_pretrained(folder)


def decider(folder: Path) -> None:
    """Any chat model decides: the options' labels are its next tokens."""
    tokenizer = word_tokenizer(("yes",), padding_side="left")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 1024
    config = LlamaConfig(**{**_llama(tokenizer), "max_position_embeddings": 1024})
    spread(LlamaForCausalLM(config), 46).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "captioner": captioner,
    "blip": blip,
    "vilt": vilt,
    "llava": llava,
    "qwen2-audio": qwen2_audio,
    "decider": decider,
}
TASKS = {
    "captioner": "image-to-text",
    "blip": "image-to-text",
    "vilt": "visual-question-answering",
    "llava": "image-text-to-text",
    "qwen2-audio": "any-to-any",
    "decider": "decision",
}
