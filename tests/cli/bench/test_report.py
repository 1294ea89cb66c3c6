"""The table of `pipeserve bench`, and what it says beside it."""

from __future__ import annotations

from typing import Any

import pytest

from app.benchmark.tally import Figures, StreamFigures
from app.cli.bench.report import Level, notes_on, shown, table_of


def load(**changes: Any) -> Figures:
    values: dict[str, Any] = {
        "concurrency": 8, "requests_per_s": 123.4, "p50_ms": 10.04, "p90_ms": 20.0, "p99_ms": 30.0, "num_answered": 100,
        "num_failed": 0, "first_failure": "", "num_refused": 0, "client_cpu": 0.25, "elapsed_s": 1.0,
    }  # fmt: skip
    return Figures(**{**values, **changes})


def cells(level: Level) -> dict[str, str]:
    table = table_of([level])
    return {str(column.header): str(next(iter(column.cells))) for column in table.columns}


def test_line_of_a_closed_loop() -> None:
    """What the server's metrics do not tell is a dash."""
    assert cells(Level(load=load())) == {
        "CLIENTS": "8", "REQUESTS/S": "123", "P50 MS": "10", "P90 MS": "20", "P99 MS": "30", "FAILED": "0",
        "BATCH": "-", "CLIENT CPU": "25 %",
    }  # fmt: skip


def test_line_of_a_stream_in_an_open_loop() -> None:
    """Its rate in the place of clients, and the times of tokens."""
    stream = StreamFigures(tokens_per_s=50, num_tokens=9, ttft_p50_ms=1, ttft_p99_ms=2, tpot_p50_ms=3, tpot_p99_ms=4)
    found = cells(Level(load=load(concurrency=None, rate=2.5, stream=stream), mean_batch_items=3.14))
    assert (found["RATE"], found["TOKENS/S"], found["TTFT P50"], found["TPOT P99"]) == ("2.5", "50", "1", "4")
    assert found["BATCH"] == "3.1"


def test_failures_and_a_client_at_its_limit_are_told() -> None:
    """Which line, and the first failure."""
    notes = notes_on([Level(load=load(num_failed=2, first_failure="429 later", client_cpu=0.95)), Level(load=load())])
    assert notes[0] == "8 clients: 2 failed, the first with: 429 later"
    assert "8 clients: the client took nearly a whole core" in notes[1] and len(notes) == 2


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "-"), (1234.5, "1234"), (0.1234, "0.123")])
def test_figures_have_three_digits(value: float, text: str) -> None:
    """And what was not measured is no number."""
    assert shown(value) == text
