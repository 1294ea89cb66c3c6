"""The options of commands that ask a model about rows, and the model that they mean: a server's, or one of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.completion import models_and_tasks, task_names
from app.cli.finding import catalog_of, changed, find_model
from app.cli.server import parsed_url
from app.client import KEY_VARIABLE
from app.settings import Settings, default_cache_dir

if TYPE_CHECKING:
    import httpx2

    from app.catalog import ModelSpec
    from app.dataset.asking import Model
    from app.dataset.columns import InputColumns
    from app.dataset.mapping import Pace
    from app.dataset.rows import Files, Source
    from app.tasks.base import Task

_TEXTS, _TEXTS_AT_ONCE = 16, 128
_FILES, _FILES_AT_ONCE = 1, 32  # each may have megabytes

ModelName = Annotated[
    str,
    typer.Argument(
        help="An id of models.yaml or of the server; a task, for its default model; a folder or Hub id.",
        autocompletion=models_and_tasks,
    ),
]
ModelsFile = Annotated[Path, typer.Option("--models", "-m", envvar="PIPESERVE_MODELS", help="The catalogue of models.")]
Data = Annotated[
    str,
    typer.Option(
        help="A .csv, .tsv, .jsonl or .parquet file (or .csv.gz, ...), a folder of these or of images, sounds or"
        " videos, what `save_to_disk` wrote, or a data set's id on the Hub."
    ),
]
Config = Annotated[str | None, typer.Option("--config", "--subset", help="Of a data set on the Hub that has several.")]
Split = Annotated[str | None, typer.Option(help="Of a data set that has several: test, or train[:1000].")]
Revision = Annotated[str | None, typer.Option(help="Of a data set on the Hub: a branch, a tag or a commit.")]
Streaming = Annotated[
    bool,
    typer.Option("--streaming", help="Read a data set from the Hub as its rows are needed, instead of downloading it."),
]
ColumnList = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        "-c",
        metavar="COLUMN|FIELD=COLUMN",
        help="What the model gets: `text`, or for inputs of several fields `question=q` and `context=c`.",
    ),
]
FilesFolder = Annotated[
    Path | None, typer.Option(help="Where the files are that a column names. [default: where the data are]")
]
TaskName = Annotated[
    str | None,
    typer.Option(help="What the model is asked for, where it is for several tasks.", autocompletion=task_names),
]
ParameterList = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Of every request; the value may be JSON."),
]
Url = Annotated[
    str | None,
    typer.Option(
        envvar="PIPESERVE_URL",
        parser=parsed_url,
        metavar="URL",
        help=f"A server that runs; {KEY_VARIABLE} holds its key, if it needs one.",
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        min=1, help=f"Rows that are computed at a time. [default: {_TEXTS_AT_ONCE}; of files {_FILES_AT_ONCE}]"
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many rows, from the first on.")]

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The model as the command line says it. url: None: in this process. changes: keys that its entry would have
    instead of its own."""

    model: str
    task: str | None
    parameters: dict[str, Any]
    models: Path
    url: str | None
    cache_dir: Path | None
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Found:
    """identity: what else than the task and the parameters its answers depend on. open: the loaded model; called with
    who wants to hear how far the load is."""

    name: str
    task: Task
    identity: str
    open: Callable[[Tell], AbstractAsyncContextManager[Model]]


@asynccontextmanager
async def found_model(wanted: Wanted) -> AsyncIterator[Found]:
    """Raises PipeserveError."""
    from app.dataset.asking import check_parameters

    if wanted.url is not None:
        from app.dataset.remote import connected

        async with connected(wanted.url) as client:
            found = await _found_remote(wanted, client)
            check_parameters(found.task, wanted.parameters)
            yield found
    else:
        spec = changed(await find_model(wanted.model, wanted.models, wanted.task), wanted.changes)
        found = found_offline(wanted, spec)
        check_parameters(found.task, wanted.parameters, spec.parameters)
        yield found


async def _found_remote(wanted: Wanted, client: httpx2.AsyncClient) -> Found:
    from app.dataset.remote import RemoteModel, find_remote

    name, task = await find_remote(client, wanted.model, wanted.task)
    return Found(
        name=name or task.name,
        task=task,
        identity=f"{name} of {wanted.url}",
        open=lambda tell: nullcontext(RemoteModel(client, name, task, wanted.parameters)),
    )


def found_offline(wanted: Wanted, spec: ModelSpec) -> Found:
    """Raises PipeserveError."""
    from app.dataset.offline import offline
    from app.environments.places import environments_of
    from app.errors import NotAvailable

    if spec.has_handler:
        raise NotAvailable(f"{spec.id} is served by its handler.py, whose inputs only itself knows.")
    task = _task_of(spec, wanted.task)
    settings = Settings(cache_dir=wanted.cache_dir or default_cache_dir(), log_level="critical")
    catalog = catalog_of(wanted.models)

    def opened(tell: Tell) -> AbstractAsyncContextManager[Model]:
        return offline(
            spec,
            task,
            wanted.parameters,
            catalog=catalog,
            environments=environments_of(catalog, settings.cache_dir),
            settings=settings,
            tell=tell,
        )

    computed_by = (
        spec.backend,
        spec.dtype,
        spec.quantization,
        *([spec.adapter.path, spec.adapter.revision] if spec.adapter else []),
    )
    identity = " ".join(map(str, (spec.model, spec.revision, *computed_by, sorted(spec.parameters.items()))))
    return Found(name=spec.name, task=task, identity=identity, open=opened)


def _task_of(spec: ModelSpec, name: str | None) -> Task:
    from app.errors import InvalidInput
    from app.tasks.registry import TASKS, find_task

    if name is None:
        return TASKS[spec.tasks[0]]
    task = find_task(name)
    if task.name not in spec.all_tasks:
        raise InvalidInput(f"{spec.id} is not for {task.name}; it is for {', '.join(spec.all_tasks)}.", param="task")
    return task


def parsed_parameters(given: list[str] | None) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{one} is not NAME=VALUE.", param_hint="--parameter")
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[name] = value
    return found


def opened(
    data: str, *, config: str | None, split: str | None, revision: str | None, streams: bool, limit: int | None
) -> Source:
    """Blocks, as it counts the rows. Raises PipeserveError."""
    from app.dataset.hub import Part
    from app.dataset.sources import open_source
    from app.errors import InvalidInput

    source = open_source(data, Part(config=config, split=split, revision=revision, streams=streams, limit=limit))
    if source.num_rows == 0:
        raise InvalidInput(f"{data}: it has no rows.")
    return source


def files_of(source: Source, folder: Path | None) -> Files | None:
    """folder: of `--files`."""
    from app.dataset.files import FolderFiles

    return source.files if folder is None else FolderFiles(folder)


def pace_of(columns: InputColumns, concurrency: int | None) -> Pace:
    from app.dataset.mapping import Pace

    rows, at_once = (_FILES, _FILES_AT_ONCE) if columns.has_files else (_TEXTS, _TEXTS_AT_ONCE)
    at_once = concurrency or at_once
    return Pace(request_rows=min(rows, at_once), rows_at_once=at_once)
