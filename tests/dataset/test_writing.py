"""The output: rows in their order, with the answers' columns, in each format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from app.dataset.journal import Entry, Journal
from app.dataset.sources import open_source
from app.dataset.writing import Output, check_out, errors_of
from app.errors import BackendFailed, InvalidInput
from app.tasks.registry import TASKS


def written(tmp_path: Path, data: Path, out: str, answers: list[str | None], task: str = "question-answering") -> Path:
    """None: a row that was set aside."""
    source = open_source(str(data))
    with Journal(tmp_path / "a.part", {}, len(answers)) as journal:
        entries = [
            Entry(number, None if one is None else one.encode(), "bad" if one is None else None)
            for number, one in enumerate(answers)
        ]
        journal.add(entries[::-1])
        Output(source, journal, TASKS[task], {}, source.columns).write(tmp_path / out)
        journal.delete()
    return tmp_path / out


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text('id,text\n007,a\n8,b\n9,"c\n,d"\n')
    return path


ANSWERS = ['{"answer": "x", "score": 1}', None, '{"answer": "ä, \\"y\\"", "score": 0.25, "more": [1, {"k": null}]}']


def test_csv_has_all_columns_of_all_answers(tmp_path: Path, table: Path) -> None:
    """Lists and objects are JSON; rows set aside are in a file of their own, with number, reason and the row."""
    out = written(tmp_path, table, "out.csv", ANSWERS)
    with out.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "text", "answer", "score", "more"],
            ["007", "a", "x", "1", ""],
            ["9", "c\n,d", 'ä, "y"', "0.25", '[1,{"k":null}]'],
        ]
    told = [json.loads(line) for line in errors_of(out).read_text().splitlines()]
    assert told == [{"row": 2, "error": "bad", "values": {"id": "8", "text": "b"}}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv", "out.csv.errors.jsonl"]


def test_json_lines_and_parquet_hold_the_same(tmp_path: Path, table: Path) -> None:
    """A whole number among others with a point is one of these, in Parquet."""
    lines = [json.loads(line) for line in written(tmp_path, table, "out.jsonl", ANSWERS).read_text().splitlines()]
    assert lines == [
        {"id": "007", "text": "a", "answer": "x", "score": 1},
        {"id": "9", "text": "c\n,d", "answer": 'ä, "y"', "score": 0.25, "more": [1, {"k": None}]},
    ]
    answers = ANSWERS[:2] + ['{"answer": "z", "score": 0.5, "start": 3}']
    found = pyarrow.parquet.read_table(written(tmp_path, table, "out.parquet", answers))
    assert found.to_pylist() == [
        {"id": "007", "text": "a", "answer": "x", "score": 1.0, "start": None},
        {"id": "9", "text": "c\n,d", "answer": "z", "score": 0.5, "start": 3},
    ]
    with pytest.raises(BackendFailed, match=r"Write \.jsonl"):
        written(tmp_path, table, "mixed.parquet", ['{"answer": 1}', '{"answer": "x"}', '{"answer": [2]}'])
    assert not (tmp_path / "mixed.parquet").exists()


def test_parquet_keeps_the_types_of_the_data(tmp_path: Path) -> None:
    """A small integer is none of 64 bits afterwards."""
    schema = pyarrow.schema(
        [("text", pyarrow.string()), ("stars", pyarrow.int8()), ("at", pyarrow.timestamp("us", "UTC"))]
    )
    data = pyarrow.Table.from_pylist(
        [{"text": "a", "stars": 5, "at": 0}, {"text": "b", "stars": None, "at": 1}], schema
    )
    pyarrow.parquet.write_table(data, tmp_path / "in.parquet")
    answers = ['[{"label": "A", "score": 0.5}]', '[{"label": "B", "score": 1}]']
    out = written(tmp_path, tmp_path / "in.parquet", "out.parquet", list(answers), "text-classification")
    found = pyarrow.parquet.read_table(out)
    assert found.schema.remove_metadata() == pyarrow.schema(
        [*schema, ("label", pyarrow.string()), ("score", pyarrow.float64())]
    )
    assert found.select(["text", "stars", "at"]).equals(data)


def test_label_of_the_data_stays_the_datas(tmp_path: Path) -> None:
    """The model's gets another name."""
    (tmp_path / "in.csv").write_text("text,label\na,GOOD\n")
    out = written(tmp_path, tmp_path / "in.csv", "out.jsonl", ['[{"label": "BAD", "score": 1}]'], "text-classification")
    assert json.loads(out.read_text()) == {"text": "a", "label": "GOOD", "model_label": "BAD", "model_score": 1}


def test_without_bad_rows_no_older_file_tells_of_some(tmp_path: Path, table: Path) -> None:
    """That of an earlier run is gone."""
    errors_of(tmp_path / "out.csv").write_text("old")
    written(tmp_path, table, "out.csv", ['{"answer": "x"}'] * 3)
    assert not errors_of(tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("out.xlsx", "written are"), ("gone/out.csv", "no folder"), ("o.csv.gz", "written")]
)
def test_outputs_that_cannot_be_written_are_refused_first(tmp_path: Path, name: str, words: str) -> None:
    """Before anything is computed."""
    with pytest.raises(InvalidInput, match=words):
        check_out(tmp_path / name)
