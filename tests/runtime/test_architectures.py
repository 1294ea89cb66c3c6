"""Other families than BERT: each must answer in a padded batch what it answers alone, as plain transformers does."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from tests.runtime.compute import answer, answer_together, load

TEXTS = ["I loved this film.", "Terrible", "The cat sleeps on the sofa in a very old house by the river of London."]

# Positions of RoBERTa and MPNet begin after the padding's index; GPT-2 and Llama are causal, Llama's padding is on the
# left; BART and T5 have a decoder; DeBERTa, T5 and XLNet have relative positions; ALBERT shares its layers.
FAMILIES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bart": {"d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_layers": 1, "decoder_layers": 1,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2, "eos_token_id": 3,
             "decoder_start_token_id": 3, "bos_token_id": 2, "forced_eos_token_id": None},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    "distilbert": {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "electra": {"embedding_size": 16},
    "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64, "eos_token_id": 3, "bos_token_id": 2},
    "llama": {"num_key_value_heads": 2, "eos_token_id": 3, "bos_token_id": 2},
    "modernbert": {"global_attn_every_n_layers": 1, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3,
                   "bos_token_id": 2},
    "mpnet": {},
    "roberta": {},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2, "eos_token_id": 3,
           "decoder_start_token_id": 0},
    "xlnet": {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 32},
}  # fmt: skip


def _save(family: str, model_class: Any, folder: Path, models_dir: Path) -> None:
    """A tiny random model of the family, with the tokenizer of the tiny BERT."""
    tokenizer = AutoTokenizer.from_pretrained(models_dir / "encoder")
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 64, "pad_token_id": 0, "num_labels": 3,
    }  # fmt: skip
    own = FAMILIES[family]
    names = {"n_embd", "d_model", "dim"} & own.keys()
    if names:
        sizes = {name: sizes[name] for name in ("vocab_size", "max_position_embeddings", "pad_token_id", "num_labels")}
    if family == "xlnet":
        del sizes["max_position_embeddings"]  # it has no limit
    torch.manual_seed(0)
    model = model_class.from_config(AutoConfig.for_model(family, **{**sizes, **own}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(models_dir / "encoder" / name, folder / name)
    tokenizer.padding_side = "left" if family in ("llama", "xlnet") else "right"
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_family_classifies_in_a_batch_as_alone(family: str, models_dir: Path, tmp_path: Path) -> None:
    """And alone as plain transformers does."""
    _save(family, AutoModelForSequenceClassification, tmp_path, models_dir)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    stages = load(tmp_path, "text-classification").stages("text-classification")
    (together,) = answer_together(stages, [(TEXTS, {"function_to_apply": "none"})])
    for text, given in zip(TEXTS, together, strict=True):
        encoding = tokenizer(text, return_tensors="pt")
        if "token_type_ids" not in inspect.signature(model.forward).parameters:
            encoding.pop("token_type_ids", None)
        with torch.inference_mode():
            logits = model(**encoding).logits[0]
        expected = [float(logits[model.config.label2id[one["label"]]]) for one in given]
        alone = answer(stages, text, {"function_to_apply": "none"})
        # Padded rows are summed in another order.
        np.testing.assert_allclose([one["score"] for one in given], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose([one["score"] for one in alone], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_family_embeds_in_a_batch_as_alone(family: str, models_dir: Path, tmp_path: Path) -> None:
    """With mean pooling declared; T5 by its encoder alone."""
    _save(family, AutoModel, tmp_path, models_dir)
    stages = load(tmp_path, "feature-extraction", pooling="mean").stages("feature-extraction")
    (together,) = answer_together(stages, [(TEXTS, {})])
    for text, given in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(given, answer(stages, text), rtol=1e-4, atol=1e-4)
