"""The page of `pipeserve top`, at fixed widths."""

from __future__ import annotations

import dataclasses

import pytest
from rich.console import Console

from app.cli.top.figures import DeviceFigures, Figures, ModelFigures, Rates, ServerFigures
from app.cli.top.screen import page, show_age, show_rate, show_time
from app.cli.top.sorts import Sort

URL = "http://127.0.0.1:8000"
RATES = Rates(
    requests_per_s=12.34,
    errors_per_s=0.5,
    refused_per_s=0,
    tokens_in_per_s=12345,
    tokens_out_per_s=0,
    mean_batch_items=7.25,
    p50_s=0.0042,
    p99_s=1.25,
)
READY = ModelFigures(
    id="acme/reviews",
    state="ready",
    reason=None,
    devices=["cuda:0", "cuda:1"],
    replicas=2,
    memory_bytes=3 * 2**30,
    in_flight=9,
    queued=4,
    pinned=False,
    idle_s=None,
    unloads_in_s=None,
    rates=RATES,
)
IDLE = dataclasses.replace(
    READY, id="words", devices=["cpu"], in_flight=0, queued=0, idle_s=65, unloads_in_s=235, rates=None
)
FAILED = dataclasses.replace(
    IDLE, id="gone[/]", state="failed", reason="There is no folder.", memory_bytes=0, devices=[], idle_s=None,
    unloads_in_s=None, replicas=0,
)  # fmt: skip
FIGURES = Figures(
    interval_s=2,
    server=ServerFigures(
        version="0.1.0", uptime_s=9000, open_requests=3, memory_bytes=200 * 2**20, cpu_ratio=0.12, rates=RATES
    ),
    devices=[
        DeviceFigures(device="cpu", budget_bytes=8 * 2**30, used_bytes=2 * 2**30),
        DeviceFigures(device="mps", budget_bytes=None, used_bytes=2**30),
    ],
    states={"ready": 2, "failed": 1, "unloaded": 40, "unresolved": 2},
    models=[FAILED, IDLE, READY],
    sees_cards=True,
)


def drawn(width: int = 160, height: int | None = None, **changes: object) -> list[str]:
    options = {"url": URL, "sort": Sort.REQUESTS, **changes}
    figures = options.pop("figures", FIGURES)
    console = Console(width=width, height=height, highlight=False, color_system=None)
    with console.capture() as capture:
        # What stands in `options` is of several types.
        console.print(page(figures, width=width, height=height, **options))  # type: ignore[arg-type]
    return [line.rstrip() for line in capture.get().splitlines()]


def test_page_at_full_width() -> None:
    """All columns, the busiest model first; a name is no markup."""
    assert drawn() == [
        "pipeserve 0.1.0 at http://127.0.0.1:8000, up for 2h30m",
        "requests 12.3/s, p50 4.2ms, p99 1.2s; 5xx 0.5/s, 429 0/s; tokens 12k/s in, 0/s out; 3 open",
        "memory cpu 2.0 GiB of 8.0 GiB (25%); mps 1.0 GiB; API process 200.0 MiB and 12% of a core",
        "models 1 failed, 2 ready, 42 at rest",
        "",
        "MODEL         STATE   DEVICE         REPL   MEMORY  IN FLIGHT  QUEUED  REQ/S  TOK/S IN  OUT  BATCH    P50"
        "   P99  5XX/S  429/S   IDLE  UNLOADS",
        "acme/reviews  ready   cuda:0,cuda:1     2  3.0 GiB          9       4   12.3       12k    0    7.2  4.2ms"
        "  1.2s    0.5      0      -        -",
        "gone[/]       failed  -                 0        -          0       0      -         -    -      -      -"
        "     -      -      -      -        -",
        "words         ready   cpu               2  3.0 GiB          0       0      -         -    -      -      -"
        "     -      -      -  1m05s    3m55s",
        "gone[/]: There is no folder.",
    ]


@pytest.mark.parametrize("width", [160, 120, 100, 80, 60, 40, 20])
def test_narrow_terminals_have_fewer_columns(width: int) -> None:
    """No line is cut or folded but a name's; what matters most is left."""
    lines = drawn(width)
    titles = next(line for line in lines if line.startswith("MODEL"))
    assert "STATE" in titles
    assert max(map(len, lines)) <= width
    assert sum(line.startswith(("acme", "gone", "words")) for line in lines) >= 3
    if width >= 60:
        assert "REQ/S" in titles and "P99" in titles
    if width <= 100:
        assert "DEVICE" not in titles


def test_long_names_are_cut() -> None:
    """They leave the columns where they are."""
    figures = dataclasses.replace(FIGURES, models=[dataclasses.replace(READY, id="acme/" + "x" * 200)])
    (row,) = [line for line in drawn(80, figures=figures) if line.startswith("acme")]
    assert "…" in row and "12.3" in row and len(row) <= 80


def test_rows_that_do_not_fit_are_counted() -> None:
    """The page is never higher than the terminal."""
    models = [dataclasses.replace(READY, id=f"m{number}") for number in range(50)]
    lines = drawn(80, 24, figures=dataclasses.replace(FIGURES, models=models), keys="q ends", trouble="It is away.")
    assert len(lines) == 24
    assert [line for line in lines if "more" in line] == ["and 37 more"]
    assert lines[-2:] == ["It is away.", "q ends"]


@pytest.mark.parametrize(
    ("sort", "first"), [(Sort.NAME, "acme/reviews"), (Sort.IDLE, "words"), (Sort.QUEUED, "acme/reviews")]
)
def test_models_are_in_order(sort: Sort, first: str) -> None:
    """The most of it first, else by name."""
    lines = drawn(sort=sort)
    assert lines[6].startswith(first)


def test_what_a_key_does_not_show_is_told() -> None:
    """And a server without models has a page too."""
    figures = dataclasses.replace(FIGURES, models=[], sees_cards=False, states={})
    assert "No model is loaded." in drawn(figures=figures)
    assert "IDLE, UNLOADS and reasons need a key with the scope infer or admin as well." in drawn(figures=figures)


def test_numbers_are_short() -> None:
    """Three digits and a unit."""
    assert [show_rate(value) for value in (0, 0.01, 9.96, 123.4, 9999, 12345, 2e7)] == [
        "0", "<0.1", "10.0", "123", "9999", "12k", "20M",
    ]  # fmt: skip
    assert [show_time(value) for value in (None, 0.0042, 0.042, 0.9999, 12.34, 123)] == [
        "-", "4.2ms", "42ms", "1.0s", "12.3s", "123s",
    ]  # fmt: skip
    assert [show_age(value) for value in (0.9, 59, 61, 3600, 90_000)] == ["0s", "59s", "1m01s", "1h00m", "1d1h"]
