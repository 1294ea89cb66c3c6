"""text-ranking against transformers' own classes on the same weights, alone and among strangers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BartConfig, BartForSequenceClassification

from app.errors import InputTooLarge, NotAvailable
from app.runtime.base import Stages
from tests.models import build
from tests.runtime.compute import Job, answer, answer_together, load

TOLERANCE = 1e-5
"""Padding changes the shapes of the matrix products, and with them the order in which float32 numbers are summed."""

QUERY = "who wrote the first program?"
TEXTS = [
    "Ada Lovelace wrote the first program and worked for a company in Paris.",
    "Terrible.",
    "The match ended two goals to one; 3 players of Rome were not good",
    "a cat sleeps",
]
LONG = "john smith works in paris and mary in rome. " * 12
INPUT = {"query": QUERY, "texts": TEXTS}


@pytest.fixture(scope="module")
def folder(models_dir: Path) -> Path:
    return build("cross-encoder", models_dir)


@pytest.fixture(scope="module")
def stages(folder: Path) -> Stages:
    return load(folder, "text-ranking").stages("text-ranking")


def logits_of(folder: Path, texts: Sequence[str], **options: Any) -> torch.Tensor:
    """[texts, labels], each pair alone."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        rows = [model(**tokenizer(QUERY, text, return_tensors="pt", **options)).logits for text in texts]
    return torch.cat(rows)


def assert_ranked(given: list[dict[str, Any]], scores: list[float]) -> None:
    """Every index once, best first, with these scores (in the order of the texts)."""
    assert sorted(place["index"] for place in given) == list(range(len(scores)))
    assert [place["score"] for place in given] == sorted((place["score"] for place in given), reverse=True)
    assert [place["score"] for place in given] == pytest.approx(
        [scores[place["index"]] for place in given], abs=TOLERANCE
    )


def test_scores_are_the_sigmoid_of_the_only_label(folder: Path, stages: Stages) -> None:
    """As CrossEncoder.predict and Text Embeddings Inference have them, best first."""
    logits = logits_of(folder, TEXTS)[:, 0]
    assert_ranked(answer(stages, INPUT), logits.sigmoid().tolist())
    assert_ranked(answer(stages, INPUT, {"raw_scores": True}), logits.tolist())
    assert float(logits.std()) > 0.1, "the texts must differ for this test to say anything"


def test_top_n_cuts_and_return_text_adds(stages: Stages) -> None:
    """The best so many, each with the text that stands at its index."""
    every = answer(stages, INPUT, {"return_text": True})
    assert [place["text"] for place in every] == [TEXTS[place["index"]] for place in every]
    assert answer(stages, INPUT, {"return_text": True, "top_n": 2}) == every[:2]
    assert answer(stages, INPUT, {"return_text": True, "top_n": 100}) == every
    assert all("text" not in place for place in answer(stages, INPUT))


def test_two_labels_rank_by_the_second(tmp_path: Path) -> None:
    """The softmax's share of "relevant", for cross-encoders that were trained as classifiers."""
    folder = build("cross-encoder", tmp_path, num_labels=2)
    logits = logits_of(folder, TEXTS)
    stages = load(folder, "text-ranking").stages("text-ranking")
    assert_ranked(answer(stages, INPUT), logits.softmax(-1)[:, 1].tolist())
    assert_ranked(answer(stages, INPUT, {"raw_scores": True}), (logits[:, 1] - logits[:, 0]).tolist())


def test_more_labels_are_no_rank(models_dir: Path) -> None:
    """A classifier of three kinds does not say which one is relevant."""
    with pytest.raises(NotAvailable, match="3 labels"):
        load(build("cross-encoder", models_dir, num_labels=3), "text-ranking").stages("text-ranking")


def test_pairs_keep_their_scores_among_strangers(stages: Stages) -> None:
    """Pairs of several jobs in one forward, each with its own parameters."""
    jobs: list[Job] = [
        ([INPUT, {"query": "a film", "texts": TEXTS[::-1]}], {}),
        ([{"query": QUERY, "texts": [LONG, "a"]}], {"truncate": True, "raw_scores": True}),
        ([{"query": "x", "texts": ["y"]}], {"return_text": True}),
    ]
    for (inputs, parameters), answers in zip(jobs, answer_together(stages, jobs), strict=True):
        for one_input, given in zip(inputs, answers, strict=True):
            alone = answer(stages, one_input, parameters)
            assert [place["index"] for place in given] == [place["index"] for place in alone]
            scores = [place["score"] for place in alone]
            assert [place["score"] for place in given] == pytest.approx(scores, abs=TOLERANCE)


def test_encoder_decoder_ranks_among_strangers(folder: Path, tmp_path: Path) -> None:
    """BART classifies at its last end-of-text token, wherever padding has put it."""
    config = BartConfig(
        vocab_size=400, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, num_labels=1,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, eos_token_id=3,
    )  # fmt: skip
    torch.manual_seed(0)
    BartForSequenceClassification(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    stages = load(tmp_path, "text-ranking").stages("text-ranking")
    (given,) = answer_together(stages, [([INPUT], {"raw_scores": True})])
    assert_ranked(given[0], logits_of(tmp_path, TEXTS)[:, 0].tolist())


def test_long_pair_is_refused_unless_cut(folder: Path, stages: Stages) -> None:
    """413's error names the input; with `truncate` the longer text of the pair is cut, from the side that is asked."""
    one = {"query": QUERY, "texts": ["a", LONG]}
    with pytest.raises(InputTooLarge, match=r"inputs\[0\]"):
        answer(stages, one)
    right = answer(stages, one, {"truncate": True, "raw_scores": True})
    assert_ranked(right, logits_of(folder, one["texts"], truncation=True)[:, 0].tolist())
    left = answer(stages, one, {"truncate": True, "raw_scores": True, "truncation_direction": "Left"})
    assert {place["index"]: place["score"] for place in left}[1] != pytest.approx(
        {place["index"]: place["score"] for place in right}[1], abs=1e-3
    )
