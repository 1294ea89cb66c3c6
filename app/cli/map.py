"""`pipeserve map`: a model over a data set, resumable, in this process or through a server that runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import asked_model as asked
from app.cli.environments import CacheDir
from app.cli.finding import DEFAULT_MODELS
from app.cli.printing import AsJson, fail
from app.cli.rows_progress import RowsProgress, shown_rate

if TYPE_CHECKING:
    from app.dataset.columns import InputColumns
    from app.dataset.journal import Journal
    from app.dataset.rows import Files, Source

SET_ASIDE = 3
"""The exit code where everything is done, and some rows could not be."""
_INTERRUPTED = 130


class OnError(StrEnum):
    SKIP = "skip"
    STOP = "stop"


def map_rows(
    model: asked.ModelName,
    data: asked.Data,
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE|FOLDER/",
            help="A .csv, .tsv, .jsonl or .parquet file; or a folder, for the pictures or sounds that a model makes.",
        ),
    ],
    column: asked.ColumnList = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Of the data, into the output. [default: all but files]")
    ] = None,
    task: asked.TaskName = None,
    parameter: asked.ParameterList = None,
    models: asked.ModelsFile = DEFAULT_MODELS,
    url: asked.Url = None,
    config: asked.Config = None,
    split: asked.Split = None,
    revision: asked.Revision = None,
    streaming: asked.Streaming = False,
    files: asked.FilesFolder = None,
    concurrency: asked.Concurrency = None,
    limit: asked.Limit = None,
    on_error: Annotated[
        OnError, typer.Option(help="A row that cannot be answered is set aside (skip), or ends the run (stop).")
    ] = OnError.SKIP,
    restart: Annotated[bool, typer.Option("--restart", help="Drop what an earlier run answered.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")] = False,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> None:
    """Answer every row of a data set with a model. Ended and run again, it goes on where it was."""
    from app.dataset.mapping import StoppedByBadRow
    from app.dataset.writing import out_of
    from app.errors import PipeserveError

    wanted = asked.Wanted(
        model=model,
        task=task,
        parameters=asked.parsed_parameters(parameter),
        models=models,
        url=url,
        cache_dir=cache_dir,
    )
    try:
        place = out_of(out)
        _check_place(place, data, restart=restart, overwrite=overwrite)
        source = asked.opened(data, config=config, split=split, revision=revision, streams=streaming, limit=limit)
        run = _Run(
            source=source,
            out=place,
            columns=column or [],
            kept=_kept(source, keep),
            files=asked.files_of(source, files),
            concurrency=concurrency,
            stops=on_error is OnError.STOP,
        )
        summary = asyncio.run(run.whole(wanted))
    except (PipeserveError, StoppedByBadRow) as error:
        fail(error.message if isinstance(error, PipeserveError) else str(error))
    except KeyboardInterrupt:
        typer.echo("Stopped; the same command goes on from here.", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    typer.echo(json.dumps(asdict(summary), indent=2) if as_json else summary.sentence())
    if summary.set_aside:
        raise typer.Exit(SET_ASIDE)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """rows: of the data. resumed: those that an earlier run answered. rows_per_s: of this run, while rows were
    computed. errors: where those are that were set aside."""

    rows: int
    answered: int
    set_aside: int
    resumed: int
    rows_per_s: float | None
    out: str
    errors: str | None

    def sentence(self) -> str:
        rate = "" if self.rows_per_s is None else f", {shown_rate(self.rows_per_s)} rows/s"
        resumed = f", {self.resumed:,} of them from before" if self.resumed else ""
        aside = f"\n{self.set_aside:,} rows are set aside in {self.errors}." if self.set_aside else ""
        return f"{self.answered:,} rows in {self.out}{resumed}{rate}.{aside}"


@dataclass(frozen=True, kw_only=True)
class _Run:
    source: Source
    out: Path
    columns: Sequence[str]
    kept: Sequence[str]
    files: Files | None
    concurrency: int | None
    stops: bool

    async def whole(self, wanted: asked.Wanted) -> Summary:
        from app.dataset.columns import input_columns
        from app.dataset.writing import Output, errors_of

        async with AsyncExitStack() as stack:
            progress = stack.enter_context(RowsProgress(self.source.num_rows))
            found = await stack.enter_async_context(asked.found_model(wanted))
            columns = input_columns(found.task, self.columns, self.source.columns, self.files)
            self.out.parent.mkdir(exist_ok=True)
            journal = stack.enter_context(self._journal(found, columns, wanted.parameters))
            num_before = journal.num_done
            if num_before < self.source.num_rows:
                await self._answer(found, columns, journal, progress)
            progress.status("writing")
            output = Output(self.source, journal, found.task, wanted.parameters, self.kept)
            await asyncio.to_thread(output.write, self.out)
            journal.delete()
        return Summary(
            rows=self.source.num_rows,
            answered=journal.num_done - journal.num_problems,
            set_aside=journal.num_problems,
            resumed=num_before,
            rows_per_s=progress.rows_per_s,
            out=str(self.out),
            errors=str(errors_of(self.out)) if journal.num_problems else None,
        )

    def _journal(self, found: asked.Found, columns: InputColumns, parameters: dict[str, Any]) -> Journal:
        from app.dataset.journal import Journal, journal_of

        identity = {
            "data": self.source.identity,
            "number of rows": str(self.source.num_rows),
            "model": found.identity,
            "task": found.task.name,
            "parameters": json.dumps(parameters, sort_keys=True),
            "columns": json.dumps([columns.plain, dict(columns.fields)]),
        }
        return Journal(journal_of(self.out), identity, self.source.num_rows)

    async def _answer(
        self, found: asked.Found, columns: InputColumns, journal: Journal, progress: RowsProgress
    ) -> None:
        from app.dataset.made_files import MadeFiles, is_manifest, makes_files
        from app.dataset.mapping import Mapper

        has_folder = is_manifest(self.out) and makes_files(found.task)
        async with found.open(progress.status) as model:
            progress.begin(journal.num_done)
            mapper = Mapper(
                model,
                columns,
                journal,
                asked.pace_of(columns, self.concurrency),
                stops=self.stops,
                answered=lambda num_rows: progress.rows(num_rows, journal.num_problems),
                keep=MadeFiles(self.out.parent, found.task).keep if has_folder else None,
            )
            await mapper.run(self.source.rows())


def _check_place(out: Path, data: str, *, restart: bool, overwrite: bool) -> None:
    """A journal says that the output is being made: what is there of it may be replaced. Raises PipeserveError."""
    from app.dataset.journal import forget, journal_of
    from app.dataset.made_files import is_manifest
    from app.dataset.writing import check_out
    from app.errors import InvalidInput

    check_out(out)
    if is_manifest(out) and Path(data).expanduser().resolve() == out.parent.resolve():
        raise InvalidInput(f"--out {out.parent}: that folder is the data; what is made needs one of its own.")
    if out.exists() and not overwrite and not journal_of(out).exists():
        raise InvalidInput(f"{out} is there already: say --overwrite to replace it.")
    if restart:
        forget(journal_of(out))


def _kept(source: Source, asked: list[str] | None) -> list[str]:
    from app.dataset.rows import file_columns
    from app.errors import InvalidInput

    if asked is None:
        files = file_columns(source)
        return [name for name in source.columns if name not in files]
    for name in asked:
        if name not in source.columns:
            raise InvalidInput(
                f'--keep {name}: the data have no column "{name}"; there is {", ".join(source.columns)}.'
            )
    return asked
