"""How far a command is with its rows: a bar in a terminal, a line now and then elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import typer

_EVERY_S = 10.0
_MANY_ROWS_S = 100.0
"""Rates are shown with a decimal below so many rows/s."""


class RowsProgress:
    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows
        self._num_done = 0
        self._num_new = 0
        self._num_aside = 0
        self._began_at: float | None = None
        self._ended_at: float | None = None
        self._told_at = time.monotonic()
        self._bar = _Bar(num_rows) if sys.stderr.isatty() else None

    def __enter__(self) -> RowsProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def status(self, what: str) -> None:
        """What is done instead of rows: a phase of loading, writing."""
        if self._bar is not None:
            self._bar.describe(what)

    def begin(self, num_done: int) -> None:
        """Rows are computed from now on; so many an earlier run answered."""
        self._num_done = num_done
        self._began_at = self._told_at = time.monotonic()
        if self._bar is not None:
            self._bar.begin(num_done)

    def rows(self, num_rows: int, num_aside: int) -> None:
        """num_rows: that were done since the last call. num_aside: in all."""
        self._num_done += num_rows
        self._num_new += num_rows
        self._num_aside = num_aside
        self._ended_at = time.monotonic()
        if self._bar is not None:
            self._bar.advance(num_rows, num_aside)
        elif self._ended_at - self._told_at >= _EVERY_S:
            self._told_at = self._ended_at
            typer.echo(self._line(), err=True)

    @property
    def rows_per_s(self) -> float | None:
        if self._began_at is None or self._ended_at is None or self._ended_at <= self._began_at:
            return None
        return self._num_new / (self._ended_at - self._began_at)

    def _line(self) -> str:
        rate = self.rows_per_s or 0.0
        left = f", {_shown((self._num_rows - self._num_done) / rate)} left" if rate else ""
        aside = f", {self._num_aside:,} set aside" if self._num_aside else ""
        return f"{self._num_done:,} of {self._num_rows:,} rows, {shown_rate(rate)} rows/s{left}{aside}"


def shown_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= _MANY_ROWS_S else f"{rate:.1f}"


def _shown(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


class _Bar:
    def __init__(self, num_rows: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[aside]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("looking", total=num_rows, rate="", aside="")
        self.start, self.stop = self._progress.start, self._progress.stop

    def describe(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def begin(self, num_done: int) -> None:
        self._progress.reset(self._task, completed=num_done, description="rows", rate="", aside="")

    def advance(self, num_rows: int, num_aside: int) -> None:
        self._progress.advance(self._task, num_rows)
        speed = self._progress.tasks[self._task].speed
        rate = "" if speed is None else f"{shown_rate(speed)} rows/s"
        aside = f"{num_aside:,} set aside" if num_aside else ""
        self._progress.update(self._task, rate=rate, aside=aside)
