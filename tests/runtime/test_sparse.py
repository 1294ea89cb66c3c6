"""SPLADE's vectors against the formula on the plain model, alone and among strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from app.errors import InputTooLarge
from app.runtime.base import LoadedModel
from app.runtime.parts import Parts
from app.runtime.sparse import SparseEmbeddingStages
from app.runtime.tokenizing import Tokenizers, token_limit
from tests.models import build
from tests.runtime.compute import answer, answer_together, load

TOLERANCE = 1e-5
"""Padding changes the shapes of the matrix products, and with them the order in which float32 numbers are summed."""

TEXTS = ["a cat sleeps on the sofa", "terrible", "Ada Lovelace wrote the first program of a company in Paris."]


@pytest.fixture(scope="module")
def model(models_dir: Path) -> LoadedModel:
    return load(build("masked-lm", models_dir), "fill-mask")


def expected(folder: Path, text: str, **options: Any) -> dict[int, float]:
    plain, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = plain(**tokenizer(text, return_tensors="pt", **options)).logits[0]
    weights = torch.log1p(torch.relu(logits)).amax(0)
    return {index: float(weight) for index, weight in enumerate(weights) if weight > 0}


def by_index(given: list[dict[str, Any]]) -> dict[int, float]:
    return {one["index"]: one["value"] for one in given}


@pytest.mark.parametrize("text", TEXTS)
def test_weights_are_the_formula(model: LoadedModel, models_dir: Path, text: str) -> None:
    """Tokens without weight are left out, the others stand in the vocabulary's order."""
    given = answer(model.stages("sparse-embedding"), text)
    assert by_index(given) == pytest.approx(expected(build("masked-lm", models_dir), text), abs=TOLERANCE)
    assert [one["index"] for one in given] == sorted(one["index"] for one in given)


def test_texts_keep_their_weights_among_strangers(model: LoadedModel) -> None:
    """Padding has no weight."""
    stages = model.stages("sparse-embedding")
    (given,) = answer_together(stages, [(TEXTS, {})])
    for text, one in zip(TEXTS, given, strict=True):
        assert by_index(one) == pytest.approx(by_index(answer(stages, text)), abs=TOLERANCE)


def test_large_batches_are_computed_in_parts(models_dir: Path) -> None:
    """Logits of a whole vocabulary for every token have a limit in bytes; the parts keep their order."""
    folder = build("masked-lm", models_dir)
    plain, tokenizer = AutoModelForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokenizers = Tokenizers(tokenizer, lambda tokenizer: None)
    parts = Parts(model=plain, folder=folder, tokenizers=tokenizers, limit=token_limit(plain, tokenizer))
    stages = SparseEmbeddingStages(parts, max_logits_bytes=1)
    (given,) = answer_together(stages, [(TEXTS, {})])
    for text, one in zip(TEXTS, given, strict=True):
        assert by_index(one) == pytest.approx(expected(folder, text), abs=TOLERANCE)


def test_long_text_is_refused_unless_cut(model: LoadedModel, models_dir: Path) -> None:
    """413's error, or the end that is asked for is cut."""
    stages, long = model.stages("sparse-embedding"), "good film in paris and rome " * 40
    with pytest.raises(InputTooLarge, match=r"inputs\[0\]"):
        answer(stages, long)
    cut = expected(build("masked-lm", models_dir), long, truncation=True)
    assert by_index(answer(stages, long, {"truncate": True})) == pytest.approx(cut, abs=TOLERANCE)
