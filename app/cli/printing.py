"""What commands print: tables, with lines in a terminal and without any in a pipe; JSON; and why they fail."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]

_WIDE = 240  # columns of a table that goes into a pipe: nothing is folded


def new_table() -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    return Table(box=SIMPLE if sys.stdout.isatty() else None, pad_edge=False)


def print_table(table: Table) -> None:
    from rich.console import Console

    # No markup: a model's name may hold brackets.
    Console(width=None if sys.stdout.isatty() else _WIDE, markup=False).print(table)


def print_json(value: Any) -> None:
    """For programs, and for people who read it: indented."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def fail(message: str) -> NoReturn:
    """A sentence on stderr, and exit code 1."""
    typer.echo(message, err=True)
    sys.exit(1)
