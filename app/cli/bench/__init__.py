"""`pipeserve bench`: load on a model over HTTP, and how fast it is answered."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.asked_model import (
    ColumnList,
    Config,
    FilesFolder,
    ModelsFile,
    ParameterList,
    Revision,
    Split,
    Streaming,
    TaskName,
    files_of,
    opened,
    parsed_parameters,
)
from app.cli.completion import models_and_tasks
from app.cli.environments import CacheDir
from app.cli.finding import DEFAULT_MODELS
from app.cli.printing import AsJson, fail, print_json, print_table
from app.cli.server import Server, Trouble, parsed_url
from app.client import KEY_VARIABLE
from app.settings import default_cache_dir

if TYPE_CHECKING:
    from app.benchmark.tally import Figures
    from app.cli.bench.report import Level, Report
    from app.cli.bench.work import Work
    from app.cli.top.samples import Sample
    from app.tasks.base import Task

_INTERRUPTED = 130
_DEFAULT_S = 10.0
_POLL_S = 0.2
_MAX_ROWS = 1000
_STREAM = "text/event-stream"


def _numbers(text: str, option: str) -> list[float]:
    """`1,8,32`. Raises BadParameter."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < one < math.inf for one in found):
        raise typer.BadParameter(f"{text} is not a list of numbers such as 1,8,32.", param_hint=option)
    return found


def _counts(text: str, option: str) -> list[int]:
    """Raises BadParameter."""
    found = _numbers(text, option)
    if not all(one.is_integer() for one in found):
        raise typer.BadParameter(f"{text} is not a list of whole numbers such as 1,8,32.", param_hint=option)
    return [int(one) for one in found]


def _seconds(text: str) -> float:
    from app.durations import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if seconds <= 0:
        raise typer.BadParameter(f"{text} is no time to measure in.")
    return seconds


def bench(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL|TASK", help="A model of the server, or a task.", autocompletion=models_and_tasks),
    ],
    concurrency: Annotated[
        str, typer.Option(metavar="N,N", help="Clients at a time, each with one request: a line for each number.")
    ] = "1,8,32",
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="R,R", help="Instead of clients that wait: so many requests a second, whatever the answers do."
        ),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(parser=_seconds, metavar="TIME", help="Of each line. Unset: 10s.")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Of each line, instead of a time.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Inputs: a file, a folder or a data set, as `pipeserve map` takes. Unset: the task's example."
        ),
    ] = None,
    column: ColumnList = None,
    task: TaskName = None,
    parameter: ParameterList = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Stream texts: time to first token (TTFT), and per token (TPOT).")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="PIPESERVE_URL",
            parser=parsed_url,
            metavar="URL",
            help="A server that runs. Unset: one of its own, on a free port of this machine.",
        ),
    ] = None,
    models: ModelsFile = DEFAULT_MODELS,
    config: Config = None,
    split: Split = None,
    revision: Revision = None,
    streaming: Streaming = False,
    files: FilesFolder = None,
    limit: Annotated[int, typer.Option(min=1, help="Only so many rows of the data, from the first on.")] = _MAX_ROWS,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> None:
    """Measure how fast a model answers over HTTP: throughput, latencies, errors, and how large its batches are.

    pipeserve bench reviews --concurrency 1,16 --data reviews.csv -c text
    pipeserve bench chat --stream -p max_new_tokens=128
    pipeserve bench reviews --rate 50,100 --url https://models.example.org
    """
    from app.errors import PipeserveError

    if requests is not None and duration is not None:
        fail("Say --duration or --requests, not both.")
    run = _Run(
        loads=_loads(concurrency, rate),
        seconds=math.inf if requests is not None else duration or _DEFAULT_S,
        num_requests=requests or math.inf,
        data=data,
        rows=lambda: (
            None
            if data is None
            else opened(data, config=config, split=split, revision=revision, streams=streaming, limit=limit)
        ),
        columns=column or [],
        files=files,
        parameters=parsed_parameters(parameter),
        streams=stream,
    )
    try:
        with ExitStack() as stack, _told() as tell:
            if url is None:
                tell("start a server")
                own = _started(model, task, models, cache_dir or default_cache_dir())
                url, model = stack.enter_context(own)
            report = run.whole(stack.enter_context(Server(url)), model, task, tell)
    except Trouble as trouble:
        fail(trouble.whole)
    except PipeserveError as error:
        fail(error.message)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    _print(report, as_json=as_json)
    if not any(level.load.num_answered for level in report.levels):
        raise typer.Exit(1)


@contextmanager
def _started(model: str, task: str | None, models: Path, cache_dir: Path) -> Iterator[tuple[str, str]]:
    """Serves models.yaml, or, of a model that is not in it, an entry made of what the command says. Its URL, and what
    the model is called there."""
    from app.cli.bench.own_server import catalog_of_one, own_server
    from app.cli.finding import catalog_of, declared, find_model, serves

    is_served = serves(catalog_of(models), model)
    if not is_served or declared(model, models) is not None:
        asyncio.run(find_model(model, models, task))  # what is wrong with it is said before anything is started
    with ExitStack() as stack:
        if not is_served:
            entry = _entry(model, task)
            models, model = stack.enter_context(catalog_of_one(entry)), entry.get("id", model)
        yield stack.enter_context(own_server(models, cache_dir)), model


def _entry(model: str, task: str | None) -> dict[str, Any]:
    """Of a file that lies elsewhere: a folder is absolute, and the model is called by its name, as a URL's path cannot
    begin with a slash of its own."""
    from app.cli.finding import entry_of

    entry = entry_of(model, task)
    folder = Path(model).expanduser().resolve()
    return {**entry, "id": folder.name.replace(" ", "-"), "model": str(folder)} if folder.is_dir() else entry


@dataclass(frozen=True, kw_only=True)
class _Load:
    """So many clients, or requests a second."""

    concurrency: int | None = None
    rate: float | None = None

    def __str__(self) -> str:
        return f"{self.concurrency} clients" if self.rate is None else f"{self.rate:g} requests/s"


def _loads(concurrency: str, rate: str | None) -> list[_Load]:
    """Raises BadParameter."""
    if rate is not None:
        return [_Load(rate=one) for one in _numbers(rate, "--rate")]
    return [_Load(concurrency=one) for one in _counts(concurrency, "--concurrency")]


Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Run:
    loads: Sequence[_Load]
    seconds: float
    num_requests: float
    data: str | None
    rows: Callable[[], Any]
    columns: Sequence[str]
    files: Path | None
    parameters: dict[str, Any]
    streams: bool

    def whole(self, server: Server, model: str, task: str | None, tell: Tell) -> Report:
        """Raises Trouble, PipeserveError."""
        from app.cli.bench.report import Report
        from app.cli.finding import find_served

        name, found = find_served(server, model, task)
        work = self._work(found, name)
        tell("load the model")
        self._try(server, work)
        _wait_for_loads(server)
        levels = asyncio.run(self._measure(server.url, name, work, tell))
        return Report(
            url=server.url, model=name, task=found.name, data=self.data, num_inputs=len(work.bodies), levels=levels
        )

    def _work(self, task: Task, name: str | None) -> Work:
        from app.cli.bench.work import inputs_of, make_work

        source = self.rows()
        inputs = None
        if source is not None:
            from app.dataset.columns import input_columns

            columns = input_columns(task, self.columns, source.columns, files_of(source, self.files))
            inputs = inputs_of(source, columns)
        return make_work(task, name, inputs, self.parameters, streams=self.streams)

    def _try(self, server: Server, work: Work) -> None:
        """One request, which loads the model and says what is wrong with the others. Raises Trouble."""
        answer = server.post(work.path, work.bodies[0], headers={"content-type": "application/json"})
        if work.streams and not answer.headers.get("content-type", "").startswith(_STREAM):
            raise Trouble(f"--stream: {work.path} does not stream its answers.")

    async def _measure(self, url: str, model: str | None, work: Work, tell: Tell) -> list[Level]:
        from app.benchmark.connection import encode_requests
        from app.benchmark.loops import raise_file_limit

        raise_file_limit()
        messages = encode_requests(url + work.path, work.bodies, os.environ.get(KEY_VARIABLE))
        levels = []
        for load in self.loads:
            tell(str(load))
            levels.append(await self._level(url, model, work, messages, load))
        return levels

    async def _level(self, url: str, model: str | None, work: Work, messages: list[bytes], load: _Load) -> Level:
        from app.benchmark.loops import Effort, run_closed_loop, run_open_loop
        from app.cli.bench.report import Level

        target = url + work.path
        effort = Effort(seconds=self.seconds, num_requests=self.num_requests)
        if load.concurrency is not None:  # what is new at this size of batch is not counted
            await run_closed_loop(
                target, messages, load.concurrency, Effort(num_requests=load.concurrency), streams=work.streams
            )
        before = await _sampled(url)
        found: Figures
        if load.rate is not None:
            found = await run_open_loop(target, messages, load.rate, effort, streams=work.streams)
        else:
            assert load.concurrency is not None
            found = await run_closed_loop(target, messages, load.concurrency, effort, streams=work.streams)
        after = await _sampled(url)
        if before is None or after is None:
            return Level(load=found)
        return _level_of(found, before, after, model)


def _level_of(found: Figures, before: Sample, after: Sample, model: str | None) -> Level:
    from app.cli.bench.report import Level
    from app.cli.top.figures import rates_between
    from app.cli.top.samples import ModelSample

    names = [name for name in after.models if model in (None, name)] or list(after.models)
    rates = rates_between(
        [(before.models.get(name, ModelSample()), after.models[name]) for name in names], found.elapsed_s
    )
    return Level(
        load=found,
        mean_batch_items=rates.mean_batch_items,
        tokens_in_per_s=rates.tokens_in_per_s,
        tokens_out_per_s=rates.tokens_out_per_s,
    )


async def _sampled(url: str) -> Sample | None:
    """The server's metrics; None: the key is not for them, or it is no server of ours."""
    from app.cli.top.source import Source

    try:
        async with Source(url, shows_all=False) as source:
            return await source.sample()
    except Trouble:
        return None


def _wait_for_loads(server: Server) -> None:
    """Other models that models.yaml has loaded at the start would take the same cores."""
    while server.models({"state": "loading"}):
        time.sleep(_POLL_S)


@contextmanager
def _told() -> Iterator[Tell]:
    """What is being done: a line that changes in a terminal, else nothing."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what: None
        return
    with console.status("") as status:
        yield status.update


def _print(report: Report, *, as_json: bool) -> None:
    from app.cli.bench.report import notes_on, table_of

    if as_json:
        print_json(report)
        return
    print_table(table_of(report.levels))
    inputs = "its example" if report.data is None else f"{report.num_inputs:,} inputs of {report.data}"
    typer.echo(f"{report.model or 'the first model'} of {report.url}, {report.task}, {inputs}.")
    for note in notes_on(report.levels):
        typer.echo(note, err=True)
