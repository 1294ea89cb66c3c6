"""`pipeserve top`: what a server does, as a table that goes on changing."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.printing import fail, print_json
from app.cli.server import DEFAULT_URL, Trouble, Url
from app.cli.top.sorts import Sort

if TYPE_CHECKING:
    from app.cli.top.figures import Figures
    from app.cli.top.source import Source

_WIDE = 240  # columns of a pipe, which has no edge


def _interval(text: str) -> float:
    from app.durations import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not 0.1 <= seconds <= 3600:
        raise typer.BadParameter(f"{text} is not between 100ms and 1h.")
    return seconds


def top(
    url: Url = DEFAULT_URL,
    interval: Annotated[
        float, typer.Option(parser=_interval, metavar="TIME", help="How often to ask it; rates are of that time.")
    ] = 2.0,
    sort: Annotated[Sort, typer.Option(help="Models with the most of it first.")] = Sort.REQUESTS,
    shows_all: Annotated[bool, typer.Option("--all", help="Models that are not loaded as well.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print one table and end, as without a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and end.")] = False,
) -> None:
    """Watch a server: its models, queues, rates and memory.

    PIPESERVE_API_KEY is the key of a server that has keys: of the scope admin, or metrics and infer. Of metrics alone
    it shows all but when models were used and why they failed.
    """
    from app.cli.top.source import Source

    source = Source(url, shows_all=shows_all)
    try:
        if as_json or once or not sys.stdout.isatty():
            figures = asyncio.run(_figures(source, interval))
            print_json(figures) if as_json else _print_page(figures, source.url, sort)
        else:
            asyncio.run(_watch(source, interval, sort))
    except Trouble as trouble:
        fail(trouble.whole)
    except KeyboardInterrupt:
        pass  # as `q`


async def _figures(source: Source, interval_s: float) -> Figures:
    """Of one interval: rates need two samples."""
    from app.cli.top.figures import figures_of

    async with source:
        before = await source.sample()
        await asyncio.sleep(interval_s)
        return figures_of(before, await source.sample(), shows_all=source.shows_all)


async def _watch(source: Source, interval_s: float, sort: Sort) -> None:
    from rich.console import Console

    from app.cli.top.live import Top

    async with source:
        await Top(source, Console(highlight=False), interval_s=interval_s, sort=sort).run()


def _print_page(figures: Figures, url: str, sort: Sort) -> None:
    from rich.console import Console

    from app.cli.top.screen import page

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    console.print(page(figures, url=url, sort=sort, width=console.width))
