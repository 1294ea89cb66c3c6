"""Rows as inputs of tasks, and answers as columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.dataset.answers import answer_columns, prefix_for
from app.dataset.columns import input_columns
from app.dataset.files import FolderFiles
from app.dataset.rows import BadRow, Row
from app.errors import InvalidInput
from app.tasks.registry import TASKS
from app.tasks.samples import PNG


@pytest.mark.parametrize(
    ("task", "given", "values", "expected"),
    [
        ("text-classification", ["text"], {"text": "a", "id": "1"}, "a"),
        ("text-classification", [], {"text": "a", "id": "1"}, "a"),
        ("text-classification", [], {"whatever": "a"}, "a"),
        ("text-classification", ["inputs=b"], {"a": "1", "b": "2"}, "2"),
        ("text-classification", ["a=b"], {"a=b": "1"}, "1"),
        ("text-classification", ["text=a", "text_pair=b"], {"a": "1", "b": "2"}, {"text": "1", "text_pair": "2"}),
        ("question-answering", [], {"question": "q", "context": "c"}, {"question": "q", "context": "c"}),
        ("question-answering", ["question=q", "context=c"], {"q": "1", "c": "2"}, {"question": "1", "context": "2"}),
        (
            "sentence-similarity",
            ["source_sentence=a", "sentences=b"],
            {"a": "1", "b": "2"},
            {"source_sentence": "1", "sentences": ["2"]},
        ),
        (
            "sentence-similarity",
            ["source_sentence=a", "sentences=b"],
            {"a": "1", "b": '["2", "3"]'},
            {"source_sentence": "1", "sentences": ["2", "3"]},
        ),
        ("text-generation", ["a"], {"a": "[not JSON"}, "[not JSON"),
        ("image-classification", [], {"image": {"bytes": PNG, "path": "x.png"}, "label": 1}, PNG),
        ("image-classification", ["u"], {"u": "https://host/a.png"}, "https://host/a.png"),
        ("visual-question-answering", [], {"image": PNG, "question": "q"}, {"image": PNG, "question": "q"}),
        ("keypoint-matching", ["a", "b"], {"a": PNG, "b": PNG}, [PNG, PNG]),
    ],
)
def test_columns_become_the_input(task: str, given: list[str], values: dict[str, Any], expected: Any) -> None:
    """Named, or clear without."""
    columns = input_columns(TASKS[task], given, tuple(values))
    assert columns.input_of(Row(0, values)) == expected


@pytest.mark.parametrize(
    ("task", "given", "columns", "words"),
    [
        ("text-classification", ["gone"], ("a",), 'no column "gone"; there is a'),
        ("text-classification", [], ("a", "b"), "which column is the input"),
        ("text-classification", ["title=a"], ("a",), "no field title"),
        ("text-classification", ["a", "text_pair=b"], ("a", "b"), "FIELD=a"),
        ("question-answering", ["a"], ("a",), "question=COLUMN, context=COLUMN"),
        ("question-answering", ["question=a"], ("a",), "needs context too"),
    ],
)
def test_columns_that_make_no_input_are_a_sentence(task: str, given: list[str], columns: list[str], words: str) -> None:
    """Which names what there is."""
    with pytest.raises(InvalidInput, match=words):
        input_columns(TASKS[task], given, columns)


def test_files_are_read_from_below_their_folder_only(tmp_path: Path) -> None:
    """A table from a stranger gets no other file into a model, or to a server."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(PNG)
    (tmp_path / "secret").write_bytes(b"secret")
    columns = input_columns(TASKS["image-classification"], ["file"], ("file",), FolderFiles(tmp_path / "data"))
    assert columns.input_of(Row(0, {"file": "a.png"})) == PNG
    assert columns.input_of(Row(0, {"file": str(tmp_path / "data" / "a.png")})) == PNG
    (tmp_path / "data" / "link").symlink_to(tmp_path / "secret")
    for name in ("../secret", str(tmp_path / "secret"), "link"):
        with pytest.raises(BadRow, match="is not below"):
            columns.input_of(Row(0, {"file": name}))
    for name in ("gone.png", "nul\0", "a" * 5000):
        with pytest.raises(BadRow, match="cannot be read"):
            columns.input_of(Row(0, {"file": name}))
    with pytest.raises(BadRow, match="nothing in this column"):
        columns.input_of(Row(0, {"file": None}))


@pytest.mark.parametrize(
    ("task", "answer", "parameters", "expected"),
    [
        ("text-classification", [{"label": "A", "score": 0.9}, {"label": "B", "score": 0.1}], {}, "label=A score=0.9"),
        ("question-answering", {"answer": "x", "score": 1}, {}, "answer=x score=1"),
        ("text-generation", [{"generated_text": "x"}], {}, "generated_text=x"),
        ("automatic-speech-recognition", {"text": "x"}, {}, "text=x"),
        ("feature-extraction", [1.0, 2.0], {}, "embedding=[1.0, 2.0]"),
        ("token-classification", [{"word": "x"}], {}, "entities=[{'word': 'x'}]"),
        ("object-detection", [], {}, "objects=[]"),
        ("sentence-similarity", [0.5], {}, "similarity=0.5"),
        ("sentence-similarity", [0.5, 0.6], {}, "similarities=[0.5, 0.6]"),
        (
            "image-classification",
            [{"label": "A", "score": 1}],
            {"top_k": 2},
            "label=A score=1 answers=[{'label': 'A', 'score': 1}]",
        ),
    ],
)
def test_answers_become_columns(task: str, answer: Any, parameters: dict[str, Any], expected: str) -> None:
    """The best one's fields, or the whole under one name."""
    found = answer_columns(TASKS[task], answer, parameters)
    assert " ".join(f"{name}={value}" for name, value in found.items()) == expected


@pytest.mark.parametrize("task", [task for task in TASKS.values() if isinstance(task.example.answer, list | dict)])
def test_every_tasks_example_becomes_columns(task: Any) -> None:
    """Whatever it is, there are columns with names, and no value is lost."""
    answers = task.example.answer
    one = answers if task.is_single(task.example.body["inputs"], {}) and isinstance(answers, dict) else answers
    found = answer_columns(task, one, {})
    assert found and all(isinstance(name, str) and name for name in found)


def test_columns_of_the_data_are_never_mistaken_for_the_models() -> None:
    """All of the model's are renamed together."""
    assert prefix_for(["label", "score"], ["text"]) == ""
    assert prefix_for(["label", "score"], ["text", "label"]) == "model_"
