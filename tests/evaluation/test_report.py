"""Rows of data and answers -> pairs -> what is measured of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.dataset.journal import Entry, Journal
from app.dataset.rows import BadRow
from app.dataset.sources import open_source
from app.errors import InvalidInput
from app.evaluation.metrics import metrics_of
from app.evaluation.pairs import Box, Kind, References, predicted
from app.evaluation.report import Comparison
from app.tasks.registry import TASKS


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        (Kind.LABEL, [{"label": "A", "score": 0.9}, {"label": "B", "score": 0.1}], ("A", "B")),
        (Kind.NUMBER, [0.5], 0.5),
        (Kind.NUMBER, [{"label": "LABEL_0", "score": 0.7}], 0.7),
        (Kind.TEXT, {"text": "x"}, "x"),
        (Kind.TEXT, [{"generated_text": "x"}], "x"),
        (Kind.ANSWER, {"answer": "x", "score": 1}, "x"),
        (Kind.ANSWER, [{"answer": "x"}, {"answer": "y"}], "x"),
        (Kind.ENTITIES, [{"entity_group": "PER", "start": 0, "end": 3}], frozenset({(0, 3, "PER")})),
        (
            Kind.OBJECTS,
            [{"label": "cat", "score": 0.5, "box": {"xmin": 1, "ymin": 2, "xmax": 4, "ymax": 8}}],
            [Box("cat", 0.5, (1, 2, 3, 6))],
        ),
    ],
)
def test_answers_are_read(kind: Kind, answer: Any, expected: Any) -> None:
    """As the tasks give them."""
    assert predicted(kind, answer) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Kind.LABEL, "1", "POSITIVE"),
        (Kind.LABEL, 0, "bad"),
        (Kind.NUMBER, "4.5", 4.5),
        (Kind.TEXT, "a text", ("a text",)),
        (Kind.TEXT, "[noise] a text", ("[noise] a text",)),
        (Kind.TEXT, ["a", "b"], ("a", "b")),
        (Kind.ANSWER, {"text": ["a", "b"], "answer_start": [1, 2]}, ("a", "b")),
        (Kind.ANSWER, {"text": [], "answer_start": []}, ("",)),
        (Kind.ANSWER, 1843, ("1843",)),
        (Kind.ENTITIES, '[{"start": 0, "end": 3, "label": "PER"}]', frozenset({(0, 3, "PER")})),
        (Kind.OBJECTS, {"bbox": [[1, 2, 3, 6]], "category": [1], "id": [7]}, [Box("good", 1.0, (1, 2, 3, 6))]),
        (
            Kind.OBJECTS,
            [{"label": "cat", "box": {"xmin": 1, "ymin": 2, "xmax": 4, "ymax": 8}}],
            [Box("cat", 1.0, (1, 2, 3, 6))],
        ),
    ],
)
def test_references_are_read(kind: Kind, value: Any, expected: Any) -> None:
    """As files and data sets have them; labels by their names."""
    references = References(column="label", names=("bad", "good"), renamed={"1": "POSITIVE"})
    assert references.read(kind, {"label": value}) == expected


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Kind.NUMBER, "many", "these are no numbers"),
        (Kind.LABEL, None, "nothing in this column"),
        (Kind.ENTITIES, [{"start": 0}], "there is no 'end'"),
        (Kind.ENTITIES, "not JSON", "these are no entities"),
        (Kind.OBJECTS, [{"label": "cat"}], "there is no 'bbox'"),
    ],
)
def test_what_is_no_reference_is_a_sentence(kind: Kind, value: Any, words: str) -> None:
    """Of that row alone."""
    with pytest.raises(BadRow, match=words):
        References(column="label").read(kind, {"label": value})


def answered(path: Path, labels: list[str | None]) -> Journal:
    """None: set aside."""
    journal = Journal(path, {}, len(labels))
    for place, label in enumerate(labels):
        answer = None if label is None else json.dumps([{"label": label, "score": 1}]).encode()
        journal.add([Entry(place, answer, "bad" if label is None else None)])
    return journal


def test_two_variants_are_compared_on_the_rows_that_both_answered(tmp_path: Path) -> None:
    """And that have a reference."""
    (tmp_path / "a.csv").write_text("text,label\n" + "a,1\nb,1\nc,0\nd,0\ne,1\n")
    references = References(column="label", renamed={"1": "P", "0": "N"})
    with (
        answered(tmp_path / "1", ["P", "P", "N", None, "P"]) as first,
        answered(tmp_path / "2", ["P", "N", "N", "N", "P"]) as second,
    ):
        comparison = Comparison(open_source(str(tmp_path / "a.csv")), [first, second], references, {Kind.LABEL})
    assert (comparison.num_rows, comparison.num_pairs, comparison.agreement) == (5, 4, 0.75)
    (metric, kind), *_ = metrics_of(TASKS["text-classification"], ["accuracy"])
    measured = comparison.measure(metric, kind, 100)
    assert [one.value for one in measured.estimates] == [1, 0.75]
    assert measured.difference is not None and measured.difference.value == -0.25


def test_rankings_agree_in_their_order_and_numbers_are_not_counted(tmp_path: Path) -> None:
    """Two models hardly ever answer the same numbers."""
    (tmp_path / "a.jsonl").write_text('{"right": [0, 1]}\n{"right": [1, 0]}\n')
    source, references = open_source(str(tmp_path / "a.jsonl")), References(column="right")
    with (
        Journal(tmp_path / "1", {}, 2) as first,
        Journal(tmp_path / "2", {}, 2) as second,
    ):
        first.add([Entry(0, b"[0.1, 0.9]", None), Entry(1, b"[0.3, 0.2]", None)])
        second.add([Entry(0, b"[0.2, 0.8]", None), Entry(1, b"[0.3, 0.4]", None)])
        assert Comparison(source, [first, second], references, {Kind.RANKING}).agreement == 0.5
        (tmp_path / "a.jsonl").write_text('{"right": 1}\n{"right": 0}\n')
        assert (
            Comparison(open_source(str(tmp_path / "a.jsonl")), [first, second], references, {Kind.NUMBER}).agreement
            is None
        )


def test_labels_that_the_model_does_not_know_are_told(tmp_path: Path) -> None:
    """Instead of an accuracy of 0."""
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,0\n")
    source, references = open_source(str(tmp_path / "a.csv")), References(column="label")
    with (
        answered(tmp_path / "1", ["POSITIVE", "NEGATIVE"]) as journal,
        pytest.raises(InvalidInput, match=r"\(0, 1\) are none .*--label-name 0=NEGATIVE"),
    ):
        Comparison(source, [journal], references, {Kind.LABEL})
