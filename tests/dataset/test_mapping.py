"""Rows through a scripted model: who is asked how often, and what is set aside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.dataset.asking import Computed
from app.dataset.columns import InputColumns
from app.dataset.journal import Journal
from app.dataset.mapping import Mapper, Pace, StoppedByBadRow
from app.dataset.rows import Row
from app.errors import (
    BackendFailed,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    Overloaded,
    PipeserveError,
    Unavailable,
    WorkerLost,
)

COLUMNS = InputColumns(plain=("text",), fields={})


class ScriptedModel:
    """Answers a text with itself in upper case, but raises what the script has for it: each error once, the last one
    for ever."""

    def __init__(self, script: dict[str, list[PipeserveError]] | None = None, *, meeting: int = 1) -> None:
        """meeting: no request is answered before so many are there."""
        self.computed = Computed()
        self.script = script or {}
        self.asked: list[list[str]] = []
        self.meeting = asyncio.Barrier(meeting)
        self.num_now = 0
        self.most_at_once = 0

    async def ask(self, inputs: list[Any]) -> list[bytes]:
        self.asked.append(inputs)
        self.num_now += len(inputs)
        self.most_at_once = max(self.most_at_once, self.num_now)
        try:
            await self.meeting.wait()
            for text in inputs:
                if errors := self.script.get(text):
                    error = errors[0]
                    if len(errors) > 1 or error.retryable:
                        del errors[0]
                    raise error
            return [json.dumps(text.upper()).encode() for text in inputs]
        finally:
            self.num_now -= len(inputs)

    async def memory_bytes(self) -> int | None:
        return None


def rows(texts: list[str | None]) -> Iterator[Row]:
    return (Row(number, {"text": text}) for number, text in enumerate(texts))


async def mapped(
    tmp_path: Path, model: ScriptedModel, texts: list[str | None], *, stops: bool = False, request_rows: int = 4
) -> dict[int, str]:
    """Answers and problems by row."""
    with Journal(tmp_path / "a.part", {}, len(texts)) as journal:
        mapper = Mapper(model, COLUMNS, journal, Pace(request_rows=request_rows, rows_at_once=8), stops=stops)
        await mapper.run(rows(texts))
        return {one.number: one.problem or json.loads(one.answer or b"") for one in journal.entries()}


async def test_every_row_is_asked_once_and_so_many_at_a_time(tmp_path: Path) -> None:
    """In requests of four rows, of which two are always there."""
    model = ScriptedModel(meeting=2)
    texts = [f"t{number}" for number in range(103)]
    found = await mapped(tmp_path, model, list(texts))
    assert found == {number: text.upper() for number, text in enumerate(texts)}
    assert sorted(text for asked in model.asked for text in asked) == sorted(texts)
    assert model.most_at_once == 8


@pytest.mark.parametrize("error", [InvalidInput("is no text"), BackendFailed("raised"), WorkerLost("killed")])
async def test_bad_row_is_set_aside_alone(tmp_path: Path, error: PipeserveError) -> None:
    """Those that were asked with it are answered; a row without an input is not asked."""
    found = await mapped(tmp_path, ScriptedModel({"c": [error]}), ["a", "b", "c", None, "e", "f"])
    assert found == {0: "A", 1: "B", 2: error.message, 3: "text: there is nothing in this column.", 4: "E", 5: "F"}


async def test_overload_is_waited_out(tmp_path: Path) -> None:
    """As long as the server says; then the same rows are asked again."""
    errors: list[PipeserveError] = [Overloaded("full", retry_after_s=0.01), Unavailable("draining", retry_after_s=0.0)]
    model = ScriptedModel({"a": errors})
    assert await mapped(tmp_path, model, ["a", "b"]) == {0: "A", 1: "B"}
    assert model.asked == [["a", "b"]] * 3


async def test_deadline_is_the_rows_own_after_some_tries(tmp_path: Path) -> None:
    """A slow row does not hold up the others for ever."""
    model = ScriptedModel({"b": [DeadlineExceeded("too late", retry_after_s=0.0)]})
    assert await mapped(tmp_path, model, ["a", "b"]) == {0: "A", 1: "too late"}


@pytest.mark.parametrize(
    "error", [InvalidInput("unknown", param="parameters.top_k"), ModelFailed("it cannot start"), PipeserveError("odd")]
)
async def test_what_is_true_of_every_row_ends_the_run(tmp_path: Path, error: PipeserveError) -> None:
    """What was answered until then is kept, and a second run does the rest, once."""
    texts: list[str | None] = ["a", "b", "c", "d"]
    with pytest.raises(type(error)):
        await mapped(tmp_path, ScriptedModel({"c": [error]}), texts, request_rows=2)
    again = ScriptedModel()
    assert await mapped(tmp_path, again, texts, request_rows=2) == {0: "A", 1: "B", 2: "C", 3: "D"}
    assert again.asked == [["c", "d"]]


async def test_stopping_at_a_bad_row_names_it(tmp_path: Path) -> None:
    """Rows are counted from 1. It is not in the journal: the next run asks it again."""
    model = ScriptedModel({"b": [InvalidInput("is no text")]})
    with pytest.raises(StoppedByBadRow, match=r"^Row 2: is no text$"):
        await mapped(tmp_path, model, ["a", "b"], stops=True)
    assert await mapped(tmp_path, ScriptedModel(), ["a", "b"]) == {0: "A", 1: "B"}
