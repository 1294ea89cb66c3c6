"""What was measured, as a table and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.benchmark.tally import Figures

if TYPE_CHECKING:
    from rich.table import Table

BUSY_CLIENT = 0.8
"""A share of a core from which on the client may be what is measured."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One line. mean_batch_items, tokens_in_per_s, tokens_out_per_s: as the server's metrics tell; None: they do
    not."""

    load: Figures
    mean_batch_items: float | None = None
    tokens_in_per_s: float | None = None
    tokens_out_per_s: float | None = None

    @property
    def name(self) -> str:
        return f"{self.load.concurrency} clients" if self.load.rate is None else f"{self.load.rate:g} requests/s"


@dataclass(frozen=True, kw_only=True)
class Report:
    """model: None: the server's first for the task. data: None: the task's example."""

    url: str
    model: str | None
    task: str
    data: str | None
    num_inputs: int
    levels: Sequence[Level]


def table_of(levels: Sequence[Level]) -> Table:
    from app.cli.printing import new_table

    is_open = levels[0].load.rate is not None
    streams = levels[0].load.stream is not None
    table = new_table()
    titles = ["RATE" if is_open else "CLIENTS", "REQUESTS/S", "P50 MS", "P90 MS", "P99 MS", "FAILED"]
    titles += ["TOKENS/S", "TTFT P50", "TTFT P99", "TPOT P50", "TPOT P99"] if streams else []
    for title in [*titles, "BATCH", "CLIENT CPU"]:
        table.add_column(title, justify="right")
    for level in levels:
        table.add_row(*_cells(level))
    return table


def _cells(level: Level) -> list[str]:
    load = level.load
    cells = [f"{load.concurrency if load.rate is None else load.rate:g}", shown(load.requests_per_s)]
    cells += [shown(load.p50_ms), shown(load.p90_ms), shown(load.p99_ms), f"{load.num_failed}"]
    if (stream := load.stream) is not None:
        figures = (stream.tokens_per_s, stream.ttft_p50_ms, stream.ttft_p99_ms, stream.tpot_p50_ms, stream.tpot_p99_ms)
        cells += map(shown, figures)
    batch = level.mean_batch_items
    return [*cells, "-" if batch is None else f"{batch:.1f}", f"{100 * load.client_cpu:.0f} %"]


def shown(value: float) -> str:
    """Three digits."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def notes_on(levels: Sequence[Level]) -> list[str]:
    """What a reader of the table should know, a sentence each."""
    notes = [
        f"{level.name}: {level.load.num_failed} failed, the first with: {level.load.first_failure}"
        for level in levels
        if level.load.num_failed
    ]
    if busy := [level.name for level in levels if level.load.client_cpu > BUSY_CLIENT]:
        notes.append(f"{', '.join(busy)}: the client took nearly a whole core; the server may be faster than it.")
    return notes
