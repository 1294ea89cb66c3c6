"""table-question-answering: the cells of a table that answer a question."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from app.tasks.base import Example, Inputs, Task, TextParameters
from app.tasks.text import Text

Cell = str | int | float | bool | None
Columns = Annotated[dict[str, list[Cell]], Field(min_length=1)]
Rows = Annotated[list[dict[str, Cell]], Field(min_length=1)]


class TableQuestionAnsweringInputs(Inputs):
    """table: the cells of each column, or a list of row objects. query: a question, or several about one table."""

    table: Columns | Rows
    query: Text | Annotated[list[Text], Field(min_length=1)]

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, table: dict[str, list[Cell]] | list[dict[str, Cell]]) -> dict[str, list[str]]:
        """As columns of strings, which is what the models read."""
        columns = table if isinstance(table, dict) else _columns_of(table)
        lengths = {name: len(cells) for name, cells in columns.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise ValueError(f"all columns must have equally many cells, but {counts}")
        if not any(lengths.values()):
            raise ValueError("must have at least one row")
        return {name: ["" if cell is None else str(cell) for cell in cells] for name, cells in columns.items()}

    @model_validator(mode="before")
    @classmethod
    def _accept_question(cls, values: Any) -> Any:
        """The task's specification says `question`, its clients send `query`."""
        if isinstance(values, dict) and "question" in values and "query" not in values:
            return {("query" if name == "question" else name): value for name, value in values.items()}
        return values


def _columns_of(rows: list[dict[str, Cell]]) -> dict[str, list[Cell]]:
    for index, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            raise ValueError(f"all rows must have the same columns, but row {index} has {', '.join(row) or 'none'}")
    return {name: [row[name] for row in rows] for name in rows[0]}


class TableQuestionAnsweringParameters(TextParameters):
    """padding is accepted and changes nothing: batches are padded as they need it."""

    padding: bool | Literal["longest", "max_length", "do_not_pad"] | None = Field(
        default=None, description="Harmless: accepted and without effect."
    )
    sequential: bool | None = Field(
        default=None, description="Several queries build on each other's answers (for models trained so). Unset: false."
    )


class TableAnswer(BaseModel):
    """coordinates: row and column of each cell, counted from 0."""

    answer: str
    coordinates: list[tuple[int, int]]
    cells: list[str]
    aggregator: str


def _normalize(body: dict[str, Any]) -> dict[str, Any]:
    """`InferenceClient` lets a call's `model` slip into the parameters."""
    parameters = body.get("parameters")
    if not isinstance(parameters, dict) or "model" not in parameters:
        return body
    rest = {name: value for name, value in parameters.items() if name != "model"}
    return {**body, "parameters": rest}


def _count_queries(one_input: Any, parameters: dict[str, Any]) -> int:
    return len(one_input["query"]) if isinstance(one_input["query"], list) else 1


TASK = Task(
    name="table-question-answering",
    summary="The cells of a table that answer a question, and what to do with them (NONE, SUM, AVERAGE, COUNT).",
    input_type=TableQuestionAnsweringInputs,
    parameters=TableQuestionAnsweringParameters,
    output_type=TableAnswer | list[TableAnswer] | list[list[TableAnswer]],
    auto_classes=("AutoModelForTableQuestionAnswering",),
    stages="app.runtime.table_question_answering:TableQuestionAnsweringStages",
    warm_up=({"query": "a", "table": {"b": ["1"]}}, {}),
    is_repeatable=True,
    default_model="google/tapas-base-finetuned-wtq",
    default_revision="e3dde19",
    example=Example(
        body={
            "inputs": {
                "query": "How many stars does transformers have?",
                "table": {"repository": ["transformers", "datasets"], "stars": ["36542", "4512"]},
            }
        },
        answer={"answer": "36542", "coordinates": [[0, 1]], "cells": ["36542"], "aggregator": "NONE"},
    ),
    batching="Tables share the queue but not a forward: each is computed by itself.",
    normalize=_normalize,
    count=_count_queries,
)
