"""The tables of docs/reliability.md."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.processes import REPOSITORY
from tests.chaos.running import Row
from tests.chaos.soak import Soaked

PAGE = REPOSITORY / "docs" / "reliability.md"
_MARKED = re.compile(r"(<!-- begin: python -m tests.chaos -->\n).*(<!-- end -->)", re.DOTALL)


def table(rows: Sequence[Row]) -> str:
    lines = ["| fault | injected | sent | right | documented errors | lost | seen |", "|---|--:|--:|--:|---|--:|---|"]
    lines += [_line(row) for row in rows]
    sums = [
        sum(column) for column in zip(*((row.num_injected, row.num_sent, row.num_right) for row in rows), strict=True)
    ]
    documented = sum(row.documented.total() for row in rows)
    lost = sum(len(row.losses) for row in rows)
    lines.append("| **all** | " + " | ".join(f"{one:,}" for one in sums) + f" | {documented:,} | {lost:,} | |")
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    documented = ", ".join(f"{number:,} × {name}" for name, number in sorted(row.documented.items()))
    counts = f"{row.num_injected:,} | {row.num_sent:,} | {row.num_right:,}"
    seen = "; ".join(dict.fromkeys(row.notes[-3:]))
    return f"| {row.fault.name} | {counts} | {documented} | {len(row.losses):,} | {seen} |"


def soak_table(soaked: Soaked) -> str:
    rows = [
        ("resident memory of the API process, MiB", "server_mib"),
        ("resident memory of a worker, MiB", "worker_mib"),
        ("file descriptors", "files"),
        ("threads", "threads"),
        ("asyncio tasks", "tasks"),
        ("series in /metrics", "series"),
    ]
    lines = ["| | second quarter | last quarter |", "|---|--:|--:|"]
    for title, name in rows:
        lines.append(f"| {title} | {getattr(soaked.early, name):.1f} | {getattr(soaked.late, name):.1f} |")
    books = soaked.ledger
    told = (
        f"{soaked.seconds / 60:.0f} minutes, {soaked.num_evictions:,} models unloaded. Of {books.num_sent:,} requests"
        f" {books.num_right:,} were answered right, {books.num_left:,} left by their clients, {len(books.losses)} lost."
    )
    return told + "\n\n" + "\n".join(lines) + "\n"


def with_tables(page: str, rows: Sequence[Row], soaked: Soaked, machine: str) -> str:
    """The page with these in the place of those that it has. Raises ValueError where it has none."""
    text = f"Measured with {machine}.\n\n{table(rows)}\n### Soak\n\n{soak_table(soaked)}"
    made, number = _MARKED.subn(lambda found: found[1] + text + found[2], page)
    if number != 1:
        raise ValueError(f"{PAGE.name} has no place for the tables")
    return made
