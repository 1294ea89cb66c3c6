"""Tiny random models for tests, made offline in milliseconds, one function per architecture.

Their weights are large and seeded, so that different inputs get clearly different answers, and the same ones on every
machine; the seeds were chosen for answers of more than one kind. They lower their texts and know the words of `WORDS`;
all else is spelled in letters.

    folder = build("sequence-classification", cache)   # one
    folders = build_all(cache)                         # all: {name: folder}
"""

from __future__ import annotations

import json
import string
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    PreTrainedModel,
    TapasConfig,
    TapasForQuestionAnswering,
)

MAX_LENGTH = 64
"""Tokens that the models take; question answering takes LONG_MAX_LENGTH, as its windows need."""
LONG_MAX_LENGTH = 512
SENTENCE_MAX_LENGTH = 32
"""`max_seq_length` in the sentence-transformers files of `sentence-encoder`."""
HIDDEN_SIZE = 32
LABELS = ("NEGATIVE", "NEUTRAL", "POSITIVE")
ENTITY_LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
NLI_LABELS = ("contradiction", "neutral", "entailment")

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    "the a an and or of in on at to for from with by is was are were be has have not no it this that these"
    " i you he she we they who what when where why how which many much will can"
    " good bad great terrible film movie story loved hated every minute boring wonderful service food"
    " cat dog sleeps sofa man woman plays guitar somebody instrument musical stock market fell shares"
    " ada lovelace john smith mary london paris berlin rome france germany england city capital country river"
    " lives lived works worked born wrote first program computer company school house"
    " sport cooking politics science match ended two goals one team player won game recipe minister election"
    " example about text topic query passage year name age number total sum average population actor movies"
    " red blue green small large old new very quickly slowly under over between people world time day night"
).split()


def build(name: str, cache: Path, **changes: Any) -> Path:
    """The folder of the model `name` (a key of BUILDERS) under `cache`, made if it is not there; changes make another
    one, named after them (max_length=512, seed=1, ...)."""
    suffix = "".join(f"-{key}-{value}" for key, value in sorted(changes.items()))
    folder = cache / (name + suffix)
    if not (folder / "model.safetensors").exists():
        BUILDERS[name](folder, **changes)
    return folder


def build_all(cache: Path) -> dict[str, Path]:
    return {name: build(name, cache) for name in BUILDERS}


def sequence_classification(folder: Path, **changes: Any) -> None:
    _save(folder, BertForSequenceClassification, labels=LABELS, **changes)


def token_classification(folder: Path, **changes: Any) -> None:
    _save(folder, BertForTokenClassification, labels=ENTITY_LABELS, **{"seed": 3, **changes})


def masked_lm(folder: Path, **changes: Any) -> None:
    _save(folder, BertForMaskedLM, **changes)


def nli(folder: Path, **changes: Any) -> None:
    """For zero-shot-classification; it classifies sequences as well."""
    _save(folder, BertForSequenceClassification, labels=NLI_LABELS, **{"seed": 5, **changes})


def cross_encoder(folder: Path, *, num_labels: int = 1, **changes: Any) -> None:
    """For text-ranking: one label, whose output is the score."""
    labels = tuple(f"LABEL_{index}" for index in range(num_labels))
    _save(folder, BertForSequenceClassification, labels=labels, **{"seed": 11, **changes})


def question_answering(folder: Path, **changes: Any) -> None:
    _save(folder, BertForQuestionAnswering, **{"max_length": LONG_MAX_LENGTH, **changes})


def table_question_answering(folder: Path, *, seed: int = 7, max_length: int = LONG_MAX_LENGTH) -> None:
    """TAPAS with aggregation, as fine-tuned on WikiTable questions. Its tokenizer needs pandas."""
    config = TapasConfig(
        **_sizes(max_length),
        type_vocab_sizes=[3, 256, 256, 2, 256, 256, 10],
        num_aggregation_labels=4,
        aggregation_labels={0: "NONE", 1: "SUM", 2: "AVERAGE", 3: "COUNT"},
        use_answer_as_supervision=True,
        select_one_column=True,
        answer_loss_cutoff=0.664694,
        cell_selection_preference=0.207951,
        temperature=0.0352513,
    )
    _spread(TapasForQuestionAnswering(config), seed).save_pretrained(folder)
    _write_vocabulary(folder)
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "TapasTokenizer", "model_max_length": max_length, "do_lower_case": True},
    )


def encoder(folder: Path, **changes: Any) -> None:
    """No pooling declared: feature-extraction answers token vectors."""
    _save(folder, BertModel, **changes)


def sentence_encoder(
    folder: Path,
    *,
    pooling: tuple[str, ...] = ("mean_tokens",),
    dense: int | None = None,
    normalize: bool = True,
    sentence_config: dict[str, Any] | None = None,
    include_prompt: bool = True,
    **changes: Any,
) -> None:
    """An encoder with sentence-transformers files.

    pooling: names as in `1_Pooling/config.json` without `pooling_mode_`; several are concatenated. dense: the size of
    a Dense layer with tanh after it. sentence_config: `config_sentence_transformers.json`.
    """
    _save(folder, BertModel, **changes)
    modules = ["", "1_Pooling"]
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": SENTENCE_MAX_LENGTH, "do_lower_case": False})
    (folder / "1_Pooling").mkdir(exist_ok=True)
    _write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": HIDDEN_SIZE,
            **{f"pooling_mode_{mode}": mode in pooling for mode in POOLING_MODES},
            "include_prompt": include_prompt,
        },
    )
    if dense is not None:
        modules.append("2_Dense")
        _write_dense(folder / "2_Dense", HIDDEN_SIZE * len(pooling), dense)
    if normalize:
        modules.append(f"{len(modules)}_Normalize")
        (folder / modules[-1]).mkdir(exist_ok=True)
    kinds = {"": "Transformer", "Pooling": "Pooling", "Dense": "Dense", "Normalize": "Normalize"}
    _write_json(
        folder / "modules.json",
        [
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": "sentence_transformers.models." + kinds[path.split("_")[-1]],
            }
            for index, path in enumerate(modules)
        ],
    )
    default = {"prompts": {"query": "query: ", "passage": "passage: "}, "similarity_fn_name": "cosine"}
    _write_json(folder / "config_sentence_transformers.json", default if sentence_config is None else sentence_config)


POOLING_MODES = (
    "cls_token",
    "mean_tokens",
    "max_tokens",
    "mean_sqrt_len_tokens",
    "weightedmean_tokens",
    "lasttoken",
)

BUILDERS: dict[str, Callable[..., None]] = {
    "sequence-classification": sequence_classification,
    "token-classification": token_classification,
    "masked-lm": masked_lm,
    "nli": nli,
    "cross-encoder": cross_encoder,
    "question-answering": question_answering,
    "table-question-answering": table_question_answering,
    "encoder": encoder,
    "sentence-encoder": sentence_encoder,
}


def _save(
    folder: Path,
    model_class: type[PreTrainedModel],
    *,
    labels: tuple[str, ...] | None = None,
    seed: int = 0,
    max_length: int = MAX_LENGTH,
    padding_side: str = "right",
) -> None:
    """The model, its config and its tokenizer, as `save_pretrained` writes them."""
    config = BertConfig(**_sizes(max_length))
    if labels is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    _spread(model_class(config), seed).save_pretrained(folder)
    _write_vocabulary(folder)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "model_max_length": max_length,
            "do_lower_case": True,
            "padding_side": padding_side,
        },
    )
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)


def _spread(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Weights that depend on nothing but the seed and their names, so that golden answers hold for all versions of
    torch and transformers. Biases are random too: zeros would hide what goes wrong with them."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.copy_(_random(name, seed, weight.shape, 0.1))
            elif "LayerNorm" not in name:
                weight.copy_(_random(name, seed, weight.shape, 0.5))
    return model


def _random(name: str, seed: int, shape: tuple[int, ...], scale: float) -> torch.Tensor:
    # RandomState, not Generator: its numbers never change.
    numbers = np.random.RandomState(zlib.crc32(name.encode()) ^ seed).standard_normal(shape)
    return torch.from_numpy(np.asarray(numbers * scale)).float()


def _sizes(max_length: int) -> dict[str, Any]:
    return {
        "vocab_size": len(_vocabulary()),
        "hidden_size": HIDDEN_SIZE,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": max_length,
    }


def _vocabulary() -> list[str]:
    letters = string.ascii_lowercase + string.digits
    pieces = ["##ing", "##ed", "##s", "##er", "##ly", *(f"##{letter}" for letter in letters)]
    return list(dict.fromkeys([*SPECIAL_TOKENS, *string.punctuation, *letters, *pieces, *WORDS]))


def _write_vocabulary(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(_vocabulary()) + "\n", encoding="utf-8")


def _write_dense(folder: Path, num_inputs: int, num_outputs: int) -> None:
    folder.mkdir(exist_ok=True)
    weights = {
        "linear.weight": _random("linear.weight", 0, (num_outputs, num_inputs), 0.2),
        "linear.bias": _random("linear.bias", 0, (num_outputs,), 0.1),
    }
    save_file(weights, folder / "model.safetensors")
    _write_json(
        folder / "config.json",
        {
            "in_features": num_inputs,
            "out_features": num_outputs,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
    )


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
