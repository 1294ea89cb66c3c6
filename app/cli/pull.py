"""`pipeserve pull`: the files of models, before anybody asks for them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.completion import model_names
from app.cli.printing import fail, print_json

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from app.catalog import ModelSpec
    from app.channel.messages import Progress

_NOTHING_TO_DO = "nothing to download: the entries are folders of this machine."


def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Ids of entries, or repositories of the Hub. Unset: every entry.",
            autocompletion=model_names,
        ),
    ] = None,
    models: Annotated[
        Path, typer.Option("--models", "-m", envvar="PIPESERVE_MODELS", help="The catalogue of models.")
    ] = Path("models.yaml"),
    jobs: Annotated[int, typer.Option(min=1, max=32, help="Models at a time.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document: where each is.")] = False,
) -> None:
    """Download what the server would download at a model's first request: that, and nothing else of its repository.

    A download that was cut off goes on where it was. HF_TOKEN, HF_ENDPOINT and HF_HOME count, as for the server.
    """
    from app.errors import CatalogError

    try:
        specs = _wanted(names or [], models)
    except CatalogError as error:
        fail(str(error))
    if not specs and not as_json:
        typer.echo(_NOTHING_TO_DO)
    pulled = asyncio.run(_pull_all(specs, jobs, shows_bars=not as_json and sys.stderr.isatty()))
    if as_json:
        print_json(pulled)
    else:
        for spec, result in zip(specs, pulled, strict=True):
            is_there = "problem" not in result
            typer.echo(
                f"{'ok     ' if is_there else 'FAILED '} {spec.id}: {result['folder' if is_there else 'problem']}"
            )
    if any("problem" in one for one in pulled):
        raise typer.Exit(1)


def _wanted(names: Sequence[str], models: Path) -> list[ModelSpec]:
    """Those that are not on this machine anyway. Raises CatalogError."""
    from app.catalog import read_catalog, read_entry

    declared: dict[str, ModelSpec] = {}
    if not names or models.is_file():
        declared = {one: spec for spec in read_catalog(models).models for one in (spec.id, *spec.aliases)}
    chosen: Iterable[ModelSpec] = (
        declared.values()
        if not names
        else (declared[name] if name in declared else read_entry({"model": name}, Path()) for name in names)
    )
    unique = {spec.id: spec for spec in chosen}
    return [spec for spec in unique.values() if not Path(spec.model).is_absolute()]


async def _pull_all(specs: Sequence[ModelSpec], jobs: int, *, shows_bars: bool) -> list[dict[str, Any]]:
    turns = asyncio.Semaphore(jobs)
    with _bars(shows_bars) as bars:

        async def pull_one(spec: ModelSpec) -> dict[str, Any]:
            async with turns:
                return {"id": spec.id, **await _pull(spec, bars)}

        return await asyncio.gather(*(pull_one(spec) for spec in specs))


async def _pull(spec: ModelSpec, bars: Bars) -> dict[str, str]:
    from app.errors import ModelFailed
    from app.fetching import fetch_all
    from app.resolving import resolve

    if spec.problem is not None:
        return {"problem": spec.problem}
    bar = bars.add_task(spec.id, total=None)

    def report(progress: Progress) -> None:
        """On the thread that downloads."""
        bars.update(bar, completed=progress.done, total=progress.total or None)

    try:
        found = await resolve(spec)
        if found.problem is not None:
            return {"problem": found.problem}
        return {"folder": str(await asyncio.to_thread(fetch_all, found, report))}
    except ModelFailed as error:
        return {"problem": error.message}
    finally:
        bars.stop_task(bar)


def _bars(are_shown: bool) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not are_shown,
    )
