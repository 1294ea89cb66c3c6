"""Rows -> answers in the journal: many rows at a time, bad ones set aside, what can be tried again tried again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from app.dataset.asking import Model, is_about_parameters
from app.dataset.columns import InputColumns
from app.dataset.journal import Entry, Journal
from app.dataset.rows import BadRow, Row
from app.errors import (
    BackendFailed,
    DeadlineExceeded,
    InputTooLarge,
    InvalidInput,
    MalformedBody,
    Overloaded,
    PipeserveError,
    UnsupportedMedia,
)

_OF_ONE_ROW = (
    BackendFailed,
    DeadlineExceeded,
    InputTooLarge,
    InvalidInput,
    MalformedBody,
    UnsupportedMedia,
)
_DEADLINE_TRIES = 3
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_PATIENCE_S = 300.0
"""So long nothing may be answered before a server that cannot be reached, or is not available, ends the run."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """request_rows: of one request. rows_at_once: being computed."""

    request_rows: int
    rows_at_once: int

    @property
    def requests_at_once(self) -> int:
        return max(1, self.rows_at_once // self.request_rows)


class StoppedByBadRow(Exception):
    """`--on-error stop`: the sentence names the row."""


class Mapper:
    """Owned by the event loop; rows are read, and their files, in a thread beside it.

    stops: at the first row that cannot be answered, instead of setting it aside. answered: told after rows came in.
    keep: what goes into the journal of the answer to a row, by its number; called in a thread, too.
    """

    def __init__(
        self,
        model: Model,
        columns: InputColumns,
        journal: Journal,
        pace: Pace,
        *,
        stops: bool = False,
        answered: Callable[[int], None] = lambda num_rows: None,
        keep: Callable[[int, bytes], bytes] | None = None,
    ) -> None:
        self._model = model
        self._columns = columns
        self._journal = journal
        self._pace = pace
        self._stops = stops
        self._tell = answered
        self._keep_answer = keep
        self._answered_at = 0.0

    async def run(self, rows: Iterator[Row]) -> None:
        """Answers those that the journal does not have. However this ends, what was answered is in the journal.
        Raises PipeserveError for what is not one row's fault, StoppedByBadRow."""
        done = self._journal.done
        todo = (row for row in itertools.islice(rows, len(done)) if not done[row.number])
        turns = asyncio.Semaphore(self._pace.requests_at_once)
        self._answered_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await turns.acquire()
                    read, bad = await asyncio.to_thread(self._read, todo)
                    if not read and not bad:
                        break
                    self._keep(bad)
                    task = group.create_task(self._answer(read))
                    task.add_done_callback(lambda _: turns.release())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self._journal.commit()

    def _read(self, todo: Iterator[Row]) -> tuple[list[tuple[Row, Any]], list[Entry]]:
        """The next request's rows with their inputs, and those that have none."""
        read, bad = [], []
        for row in itertools.islice(todo, self._pace.request_rows):
            try:
                read.append((row, self._columns.input_of(row)))
            except BadRow as error:
                bad.append(Entry(row.number, None, str(error)))
        return read, bad

    async def _answer(self, rows: list[tuple[Row, Any]]) -> None:
        """Together; where that is refused each by itself, so that only the bad ones are set aside."""
        if not rows:
            return
        numbers = [row.number for row, _ in rows]
        try:
            answers = await self._ask([one for _, one in rows])
            if self._keep_answer is not None:
                answers = await asyncio.to_thread(lambda keep: list(map(keep, numbers, answers)), self._keep_answer)
        except _OF_ONE_ROW as error:
            if isinstance(error, InvalidInput) and is_about_parameters(error):
                raise
            if len(rows) > 1:
                for row in rows:
                    await self._answer([row])
            else:
                self._keep([Entry(numbers[0], None, _about_one(error))])
        else:
            self._keep([Entry(number, answer, None) for number, answer in zip(numbers, answers, strict=True)])

    async def _ask(self, inputs: list[Any]) -> list[bytes]:
        """Waits as the server says. A deadline that passes says that it is slow, or that this row always will be."""
        loop = asyncio.get_running_loop()
        for attempt in itertools.count(1):
            try:
                answers = await self._model.ask(inputs)
                self._answered_at = loop.time()
                return answers
            except PipeserveError as error:
                if not self._may_try_again(error, attempt, loop.time()):
                    raise
                usual_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt - 1, 10))
                await asyncio.sleep(usual_s if error.retry_after_s is None else error.retry_after_s)
        raise AssertionError("This is a bug.")

    def _may_try_again(self, error: PipeserveError, attempt: int, now: float) -> bool:
        """A server that is full is waited for as long as it is there to say so."""
        if isinstance(error, DeadlineExceeded):
            return attempt < _DEADLINE_TRIES
        return error.retryable and (isinstance(error, Overloaded) or now - self._answered_at < _PATIENCE_S)

    def _keep(self, entries: list[Entry]) -> None:
        if not entries:
            return
        bad = next((one for one in entries if one.problem is not None), None)
        if self._stops and bad is not None:
            raise StoppedByBadRow(f"Row {bad.number + 1}: {bad.problem}")
        self._journal.add(entries)
        self._tell(len(entries))


def _about_one(error: PipeserveError) -> str:
    """The row was sent as a list of one."""
    return error.message.replace("inputs[0]", "inputs")
