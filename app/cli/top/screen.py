"""Figures as a page of a terminal: what does not fit is left out, the least important columns first."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.cli.top.figures import AT_REST, DeviceFigures, Figures, ModelFigures, Rates
from app.cli.top.sorts import Sort
from app.fleet.memory import show_bytes

NOTHING = "-"
_GAP = 2
_MIN_NAME = 12
_MAX_REASONS = 3
_STYLES = {"ready": "green", "loading": "yellow", "unloading": "yellow", "failed": "red"}


_ORDERS: dict[Sort, Callable[[ModelFigures, Rates], float]] = {
    Sort.REQUESTS: lambda model, rates: rates.requests_per_s,
    Sort.QUEUED: lambda model, rates: model.queued,
    Sort.TOKENS: lambda model, rates: rates.tokens_in_per_s + rates.tokens_out_per_s,
    Sort.P99: lambda model, rates: rates.p99_s or 0.0,
    Sort.ERRORS: lambda model, rates: rates.errors_per_s,
    Sort.MEMORY: lambda model, rates: model.memory_bytes,
    Sort.IDLE: lambda model, rates: -1.0 if model.idle_s is None else model.idle_s,
}
"""The most first; by name alone there is nothing to compare."""
_NO_RATES = Rates(
    requests_per_s=0, errors_per_s=0, refused_per_s=0, tokens_in_per_s=0, tokens_out_per_s=0, mean_batch_items=None,
    p50_s=None, p99_s=None,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Column:
    """importance: columns with less are left out first. sort: what it is marked for."""

    title: str
    importance: int
    cell: Callable[[ModelFigures], str]
    style: Callable[[ModelFigures], str] = lambda model: ""
    sort: Sort | None = None
    is_text: bool = False


def _rate(name: str) -> Callable[[ModelFigures], str]:
    return lambda model: NOTHING if model.rates is None else show_rate(getattr(model.rates, name))


def _time(name: str) -> Callable[[ModelFigures], str]:
    return lambda model: NOTHING if model.rates is None else show_time(getattr(model.rates, name))


def _red_if(name: str) -> Callable[[ModelFigures], str]:
    return lambda model: "red" if model.rates is not None and getattr(model.rates, name) > 0 else ""


def _memory(model: ModelFigures) -> str:
    return show_bytes(model.memory_bytes) if model.memory_bytes else NOTHING


def _batch(model: ModelFigures) -> str:
    mean = None if model.rates is None else model.rates.mean_batch_items
    return NOTHING if mean is None else f"{mean:.1f}"


def _unloads(model: ModelFigures) -> str:
    if model.state != "ready":
        return NOTHING
    if model.pinned:
        return "pinned"
    return NOTHING if model.unloads_in_s is None else show_age(model.unloads_in_s)


_COLUMNS = (
    _Column("MODEL", 100, lambda model: model.id, sort=Sort.NAME, is_text=True),
    _Column("STATE", 95, lambda model: model.state, lambda model: _STYLES.get(model.state, "dim"), is_text=True),
    _Column("DEVICE", 30, lambda model: ",".join(model.devices) or NOTHING, is_text=True),
    _Column("REPL", 20, lambda model: str(model.replicas)),
    _Column("MEMORY", 70, _memory, sort=Sort.MEMORY),
    _Column("IN FLIGHT", 60, lambda model: str(model.in_flight)),
    _Column("QUEUED", 85, lambda model: str(model.queued), lambda m: "yellow" if m.queued else "", sort=Sort.QUEUED),
    _Column("REQ/S", 90, _rate("requests_per_s"), sort=Sort.REQUESTS),
    _Column("TOK/S IN", 50, _rate("tokens_in_per_s"), sort=Sort.TOKENS),
    _Column("OUT", 49, _rate("tokens_out_per_s")),
    _Column("BATCH", 45, _batch),
    _Column("P50", 55, _time("p50_s")),
    _Column("P99", 80, _time("p99_s"), sort=Sort.P99),
    _Column("5XX/S", 75, _rate("errors_per_s"), _red_if("errors_per_s"), sort=Sort.ERRORS),
    _Column("429/S", 40, _rate("refused_per_s"), _red_if("refused_per_s")),
    _Column("IDLE", 35, lambda model: NOTHING if model.idle_s is None else show_age(model.idle_s), sort=Sort.IDLE),
    _Column("UNLOADS", 34, _unloads),
)  # fmt: skip


def page(
    figures: Figures,
    *,
    url: str,
    sort: Sort,
    width: int,
    height: int | None = None,
    trouble: str | None = None,
    keys: str = "",
) -> RenderableType:
    """height: rows that there are; None: as many as it takes. trouble: why the figures are old. keys: what they do."""
    models = in_order(figures.models, sort)
    head = _head(figures, url)
    foot = [Text(trouble, style="bold red")] if trouble is not None else []
    foot += _reasons(models)
    if not figures.sees_cards:
        foot.append(Text("IDLE, UNLOADS and reasons need a key with the scope infer or admin as well.", style="dim"))
    if keys:
        foot.append(Text(keys, style="dim"))
    room = len(models)
    if height is not None:
        lines = sum(_lines(text, width) for text in (*head, *foot))
        room = max(1, height - lines - 3)  # an empty line, the titles, and the line of those left out
    shown = models[:room]
    if len(models) > len(shown):
        foot.insert(0, Text(f"and {len(models) - len(shown)} more", style="dim"))
    body: RenderableType = _table(shown, sort, width) if shown else Text("No model is loaded.", style="dim")
    return Group(*head, Text(""), body, *foot)


def in_order(models: Iterable[ModelFigures], sort: Sort) -> list[ModelFigures]:
    by_name = sorted(models, key=lambda model: model.id)
    if (order := _ORDERS.get(sort)) is None:
        return by_name
    return sorted(by_name, key=lambda model: -order(model, model.rates or _NO_RATES))


def _lines(text: Text, width: int) -> int:
    return 1 if text.no_wrap else max(1, len(textwrap.wrap(text.plain, width)))


# The lines around the table


def _head(figures: Figures, url: str) -> list[Text]:
    server = figures.server
    rates = server.rates
    first = f"pipeserve {server.version} at {url}, up for {show_age(server.uptime_s)}"
    if rates is None:
        second = f"requests {NOTHING}"
    else:
        second = (
            f"requests {show_rate(rates.requests_per_s)}/s, p50 {show_time(rates.p50_s)}, p99 {show_time(rates.p99_s)};"
            f" 5xx {show_rate(rates.errors_per_s)}/s, 429 {show_rate(rates.refused_per_s)}/s;"
            f" tokens {show_rate(rates.tokens_in_per_s)}/s in, {show_rate(rates.tokens_out_per_s)}/s out"
        )
    cpu = "" if server.cpu_ratio is None else f" and {server.cpu_ratio:.0%} of a core"
    memory = "; ".join(
        [*(_device(device) for device in figures.devices), f"API process {show_bytes(server.memory_bytes)}{cpu}"]
    )
    counts = {**figures.states}
    at_rest = sum(counts.pop(state, 0) for state in AT_REST)
    told = [f"{count} {state}" for state, count in sorted(counts.items())]
    states = ", ".join([*told, f"{at_rest} at rest"] if at_rest or not told else told)
    return [
        Text(first, style="bold"),
        Text(f"{second}; {server.open_requests} open"),
        Text(f"memory {memory}"),
        Text(f"models {states}"),
    ]


def _device(device: DeviceFigures) -> str:
    used = f"{device.device} {show_bytes(device.used_bytes)}"
    if device.budget_bytes is None:
        return used
    share = f" ({device.used_bytes / device.budget_bytes:.0%})" if device.budget_bytes else ""
    return f"{used} of {show_bytes(device.budget_bytes)}{share}"


def _reasons(models: Sequence[ModelFigures]) -> list[Text]:
    """Of the first that failed."""
    failed = [model for model in models if model.state == "failed" and model.reason]
    lines = [
        Text(f"{model.id}: {model.reason}", style="red", overflow="ellipsis", no_wrap=True)
        for model in failed[:_MAX_REASONS]
    ]
    if len(failed) > len(lines):
        lines.append(Text(f"and {len(failed) - len(lines)} more that failed", style="red"))
    return lines


# The table


def _table(models: Sequence[ModelFigures], sort: Sort, width: int) -> Table:
    cells = {column.title: [column.cell(model) for model in models] for column in _COLUMNS}
    widths = {title: max(cell_len(text) for text in (title, *column)) for title, column in cells.items()}
    columns = _fitting(widths, width)
    name = columns[0].title
    widths[name] = min(widths[name], width - sum(_GAP + widths[column.title] for column in columns[1:]))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            Text(column.title, style="underline" if column.sort is sort else ""),
            justify="left" if column.is_text else "right",
            no_wrap=True,
            overflow="ellipsis",
            width=widths[column.title],
        )
    for row, model in enumerate(models):
        table.add_row(*(Text(cells[column.title][row], style=column.style(model)) for column in columns))
    return table


def _fitting(widths: Mapping[str, int], width: int) -> list[_Column]:
    """The columns that there is room for; the name may be cut, the others not."""
    name = _COLUMNS[0].title
    needed = {**widths, name: min(widths[name], max(_MIN_NAME, width // 3))}
    kept = list(_COLUMNS)
    while sum(_GAP + needed[column.title] for column in kept) - _GAP > width and len(kept) > 2:
        kept.remove(min(kept, key=lambda column: column.importance))
    return kept


# Numbers


def show_rate(value: float) -> str:
    """Of a second; three digits are enough to look at."""
    if value == 0:
        return "0"
    if value < 99.95:
        return f"{value:.1f}" if value >= 0.05 else "<0.1"
    for unit in ("", "k", "M"):
        if value < 9999.5:
            return f"{value:.0f}{unit}"
        value /= 1000
    return f"{value:.0f}G"


def show_time(seconds: float | None) -> str:
    """Of a request."""
    if seconds is None:
        return NOTHING
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms" if seconds >= 0.00995 else f"{seconds * 1000:.1f}ms"
    return f"{seconds:.1f}s" if seconds < 99.95 else f"{seconds:.0f}s"


def show_age(seconds: float) -> str:
    """The two largest units: `42s`, `3m05s`, `2h40m`, `12d3h`."""
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes == 0:
        return f"{whole}s"
    if hours == 0:
        return f"{minutes}m{whole % 60:02d}s"
    return f"{hours}h{minutes % 60:02d}m" if days == 0 else f"{days}d{hours % 24}h"
