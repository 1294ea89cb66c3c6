"""Models that write: decoders with and without a chat template, encoder-decoders with and without languages."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    NllbTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.models import WORDS

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'-()[]"
CHAT_TEMPLATE = (
    "<s>{% for message in messages %}{{ message['role'] }} : {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
MAX_LENGTH = 128


def spread(model: PreTrainedModel, seed: int, scale: float = 0.3) -> PreTrainedModel:
    """Weights that depend on nothing but the seed and their names, wide enough for prompts to differ."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            numbers = np.random.RandomState(zlib.crc32(name.encode()) ^ seed).standard_normal(tuple(weight.shape))
            if name.endswith("bias"):
                weight.copy_(torch.from_numpy(np.asarray(numbers * 0.1)))
            elif "norm" not in name.lower() and "ln_" not in name:
                weight.copy_(torch.from_numpy(np.asarray(numbers * scale)))
    return model


def word_tokenizer(
    extra: tuple[str, ...] = (), *, prefix: str = "<s>", suffix: str = "", pair: str | None = None, **options: Any
) -> Any:
    """Words of WORDS and, for all else, letters; special tokens before and after a text. pair: of two texts."""
    tokens = [*SPECIAL, *extra, *dict.fromkeys([*LETTERS, *WORDS]), *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>", max_input_chars_per_word=40))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    if prefix or suffix:
        parts = " ".join(filter(None, (prefix, "$A", suffix)))
        named = [(token, vocabulary[token]) for token in (prefix, suffix) if token]
        if pair is not None:
            named = [(token, vocabulary[token]) for token in ("<s>", "</s>")]
        tokenizer.post_processor = processors.TemplateProcessing(single=parts, pair=pair, special_tokens=named)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        **options,
    )


def _ids(tokenizer: Any) -> dict[str, int]:
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def llama_chat(folder: Path) -> None:
    tokenizer = word_tokenizer(padding_side="left")
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH, **_ids(tokenizer),
    )  # fmt: skip
    spread(LlamaForCausalLM(config), 1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def gpt2(folder: Path) -> None:
    """No chat template, absolute positions, no padding token in its files, as GPT-2 has it."""
    tokenizer = word_tokenizer(prefix="")
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=MAX_LENGTH, **_ids(tokenizer))
    spread(GPT2LMHeadModel(config), 2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def t5(folder: Path) -> None:
    """With the prefixes of task_specific_params, as google-t5/t5-base has them."""
    tokenizer = word_tokenizer(prefix="", suffix="</s>")
    config = T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_decoder_layers=2, num_heads=4, decoder_start_token_id=0,
        n_positions=MAX_LENGTH, **_ids(tokenizer),
    )  # fmt: skip
    config.task_specific_params = {
        "summarization": {"prefix": "summarize: ", "max_length": 20},
        "translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 20},
    }
    spread(T5ForConditionalGeneration(config), 3, 0.5).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


_BART: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": MAX_LENGTH,
}


def bart(folder: Path) -> None:
    tokenizer = word_tokenizer(prefix="<s>", suffix="</s>")
    config = BartConfig(**_BART, decoder_start_token_id=2, forced_eos_token_id=2, **_ids(tokenizer))
    spread(BartForConditionalGeneration(config), 4).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _pieces() -> list[tuple[str, float]]:
    """A vocabulary of whole words for tokenizers that were trained as unigram models."""
    words = [f"▁{word}" for word in dict.fromkeys(WORDS)]
    return [(piece, -float(index % 7) - 1) for index, piece in enumerate([*words, "▁", *LETTERS])]


def mbart(folder: Path) -> None:
    """mBART-50: the languages are tokens, the target the first of the answer."""
    tokenizer = MBart50Tokenizer(vocab=[("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *_pieces()])
    config = MBartConfig(**_BART, decoder_start_token_id=2, forced_eos_token_id=2, **_ids(tokenizer))
    spread(MBartForConditionalGeneration(config), 5).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def nllb(folder: Path) -> None:
    """M2M100 with NLLB's tokenizer, which spells in letters here."""
    vocabulary = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS])}
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[])
    config = M2M100Config(**_BART, decoder_start_token_id=2, **_ids(tokenizer))
    spread(M2M100ForConditionalGeneration(config), 6).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "llama-chat": llama_chat,
    "gpt2": gpt2,
    "t5": t5,
    "bart": bart,
    "mbart": mbart,
    "nllb": nllb,
}
TASKS = {
    "llama-chat": "text-generation",
    "gpt2": "text-generation",
    "t5": "text2text-generation",
    "bart": "summarization",
    "mbart": "translation",
    "nllb": "translation",
}
