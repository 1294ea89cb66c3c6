"""question-answering answers what transformers 4.57.6 answered, alone and among strangers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from app.errors import BackendFailed, InputTooLarge, InvalidInput
from app.runtime.question_answering import QuestionAnsweringStages
from app.runtime.tokenizing import token_limit
from tests.runtime.compute import parts_of
from tests.runtime.golden.make_question_answering import GOLDEN, LONG, SHORT

CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text())
TOLERANCE = 1e-5  # float32 sums in another order: another version of transformers, and padded rows


@pytest.fixture(scope="module")
def stages(models_dir: Path) -> QuestionAnsweringStages:
    folder = models_dir / "question-answering"
    model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return QuestionAnsweringStages(parts_of(model, tokenizer, token_limit(model, tokenizer)))


def answer(stages: QuestionAnsweringStages, case: dict[str, Any]) -> Any:
    one_input = {"question": case["question"], "context": case["context"]}
    (items,) = stages.prepare([one_input], case["parameters"])
    return stages.finish(items, stages.forward(items), case["parameters"])


def assert_equal_answers(found: Any, expected: Any) -> None:
    found_list = found if isinstance(found, list) else [found]
    expected_list = expected if isinstance(expected, list) else [expected]
    assert len(found_list) == len(expected_list)
    for one, other in zip(found_list, expected_list, strict=True):
        assert (one["answer"], one["start"], one["end"]) == (other["answer"], other["start"], other["end"])
        assert one["score"] == pytest.approx(other["score"], abs=TOLERANCE)


@pytest.mark.parametrize("index", range(len(CASES)))
def test_answer_equals_transformers_4(stages: QuestionAnsweringStages, index: int) -> None:
    """Scores, texts and offsets of every parameter, on short, long and unicode contexts."""
    assert_equal_answers(answer(stages, CASES[index]), CASES[index]["answer"])


def test_windows_among_strangers_answer_as_alone(stages: QuestionAnsweringStages) -> None:
    """One forward holds the windows of all cases, padded; every answer stays what it was."""
    rows = [
        stages.prepare([{"question": case["question"], "context": case["context"]}], case["parameters"])[0]
        for case in CASES
    ]
    outputs = stages.forward([item for row in rows for item in row])
    for case, row in zip(CASES, rows, strict=True):
        mine, outputs = outputs[: len(row)], outputs[len(row) :]
        assert_equal_answers(stages.finish(row, mine, case["parameters"]), case["answer"])


def test_offsets_point_at_the_answer(stages: QuestionAnsweringStages) -> None:
    """`start` and `end` are characters of the context as it was sent."""
    found = answer(stages, {"question": "who", "context": LONG, "parameters": {"top_k": 5}})
    assert all(LONG[one["start"] : one["end"]] == one["answer"] for one in found)


def test_long_question_is_refused_or_cut(stages: QuestionAnsweringStages) -> None:
    """A question without room for a context is too long, unless it is to be cut."""
    case = {"question": "who lives " * 40, "context": SHORT, "parameters": {"max_seq_len": 48}}
    with pytest.raises(InputTooLarge, match="80 tokens"):
        answer(stages, case)
    assert answer(stages, {**case, "parameters": {"max_seq_len": 48, "max_question_len": 8}})["answer"]


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"max_seq_len": 10_000}, "parameters.max_seq_len"),
        ({"max_seq_len": 40, "doc_stride": 39}, "parameters.doc_stride"),
    ],
)
def test_impossible_windows_are_refused(
    stages: QuestionAnsweringStages, parameters: dict[str, Any], param: str
) -> None:
    """Windows longer than the model, or that would never move on, name their parameter."""
    with pytest.raises(InvalidInput) as caught:
        answer(stages, {"question": "who", "context": SHORT, "parameters": parameters})
    assert caught.value.param == param


def test_nan_is_an_error(stages: QuestionAnsweringStages) -> None:
    """A model that computes NaN has failed."""
    (items,) = stages.prepare([{"question": "who", "context": SHORT}], {})
    broken = np.full(items[0].cost, math.nan, dtype=np.float32)
    with pytest.raises(BackendFailed):
        stages.finish(items, [(broken, broken)], {})
