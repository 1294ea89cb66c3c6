"""table-question-answering answers what transformers' pipeline answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pytest
from transformers import AutoModelForTableQuestionAnswering, AutoTokenizer, pipeline

from app.errors import InputTooLarge, InvalidInput
from app.runtime.table_question_answering import TableQuestionAnsweringStages
from app.runtime.tokenizing import token_limit
from app.tasks.registry import find_task
from app.tasks.requests import RequestParser
from tests.runtime.compute import parts_of

TABLE = {"actor": ["brad", "leonardo", "george"], "age": ["56", "45", "59"], "movies": ["87", "53", "69"]}
QUERIES = ["how many movies", "what is the age of george", "who"]


@pytest.fixture(scope="module")
def folder(models_dir: Path) -> Path:
    return models_dir / "table-question-answering"


@pytest.fixture(scope="module")
def stages(folder: Path) -> TableQuestionAnsweringStages:
    model = AutoModelForTableQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return TableQuestionAnsweringStages(parts_of(model, tokenizer, token_limit(model, tokenizer)))


def answer(stages: TableQuestionAnsweringStages, inputs: list[Any], parameters: dict[str, Any]) -> list[Any]:
    rows = stages.prepare(inputs, parameters)
    outputs = stages.forward([item for row in rows for item in row])
    return [stages.finish(row, [output], parameters) for row, output in zip(rows, outputs, strict=True)]


@pytest.mark.parametrize("sequential", [False, True])
def test_answers_equal_the_pipeline(folder: Path, stages: TableQuestionAnsweringStages, sequential: bool) -> None:
    """One query, several, and tables of strangers in one forward."""
    pipe = pipeline("table-question-answering", model=str(folder))
    frame = pandas.DataFrame.from_dict(TABLE)
    expected = [pipe(table=frame, query=QUERIES, sequential=sequential)]
    expected += [pipe(table=frame, query=query, sequential=sequential) for query in QUERIES]
    inputs = [{"table": TABLE, "query": query} for query in (QUERIES, *QUERIES)]
    found = answer(stages, inputs, {"sequential": sequential})
    assert found == [
        [{"aggregator": "NONE", **one} for one in each] if isinstance(each, list) else {"aggregator": "NONE", **each}
        for each in expected
    ]


def test_large_table_is_refused_or_cut(stages: TableQuestionAnsweringStages) -> None:
    """Rows are left out only when the request says so."""
    table = {"name": ["ada"] * 300, "age": ["36"] * 300}
    with pytest.raises(InputTooLarge, match="truncate"):
        answer(stages, [{"table": table, "query": "who"}], {})
    assert answer(stages, [{"table": table, "query": "who"}], {"truncate": True})


@pytest.mark.parametrize(
    "table",
    [{"a": ["1", "2"], "b": ["1"]}, {"a": []}, {}, [], [{"a": 1}, {"b": 2}], [{"a": [1]}], "a,b"],
)
def test_ragged_or_empty_table_is_refused(table: Any) -> None:
    """What is no table is an error that names it."""
    with pytest.raises(InvalidInput) as caught:
        RequestParser(find_task("table-question-answering")).parse({"inputs": {"table": table, "query": "who"}})
    assert caught.value.param is not None
    assert caught.value.param.startswith("inputs.table")


def test_both_spellings_and_both_forms_are_one() -> None:
    """`question` is `query`, a list of rows is a table, cells become strings, the client's stray `model` is dropped."""
    parser = RequestParser(find_task("table-question-answering"))
    rows = [{"name": "ada", "age": 36}, {"name": "max", "age": None}]
    parsed = parser.parse({"inputs": {"table": rows, "question": "who"}, "parameters": {"model": "x"}})
    assert parsed.inputs == [{"table": {"name": ["ada", "max"], "age": ["36", ""]}, "query": "who"}]
    assert parsed.parameters == {}
