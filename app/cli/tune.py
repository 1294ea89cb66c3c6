"""`pipeserve tune`: measures what could compute a model on this machine, and stores the best for `backend: auto`."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.completion import model_names, task_names
from app.cli.environments import CacheDir
from app.cli.finding import DEFAULT_MODELS, catalog_of, declared, find_model
from app.cli.printing import AsJson, fail, new_table, print_json, print_table
from app.settings import Settings, default_cache_dir

if TYPE_CHECKING:
    from rich.table import Table

    from app.catalog import ModelSpec
    from app.environments.places import Environments
    from app.tuning.candidates import Candidate
    from app.tuning.choices import Choice, Choices, Machine
    from app.tuning.report import Report, Row
    from app.tuning.tuner import Effort, Tell
    from app.tuning.workload import Workload

_NOTHING = 1e-12  # what float64 makes of two equal vectors' cosine
_INTERRUPTED = 130


class AimName(StrEnum):
    BOTH = "both"
    LATENCY = "latency"
    THROUGHPUT = "throughput"


def tune(
    model: Annotated[
        str | None,
        typer.Argument(
            help="An id of models.yaml; or a folder or Hub id, with --task where it needs one.",
            autocompletion=model_names,
        ),
    ] = None,
    models: Annotated[
        Path, typer.Option("--models", "-m", envvar="PIPESERVE_MODELS", help="The catalogue of models.")
    ] = DEFAULT_MODELS,
    task: Annotated[
        str | None,
        typer.Option(help="What a model is for that is not in models.yaml.", autocompletion=task_names),
    ] = None,
    max_difference: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="How far outputs may be from torch in float32: the largest difference of two numbers, and of"
            " embeddings 1 - cosine. [default: what float32 rounds, or what plain torch is off by itself]",
        ),
    ] = None,
    aim: Annotated[
        AimName, typer.Option("--for", help="Which requests count: of one input (latency), larger ones, or both.")
    ] = AimName.BOTH,
    texts: Annotated[
        Path | None, typer.Option(help="Texts to measure with, one a line. [default: some of 16 and 128 tokens]")
    ] = None,
    batches: Annotated[str, typer.Option(metavar="N,N", help="Inputs of a request.")] = "1,8,32",
    rounds: Annotated[int, typer.Option(min=1, help="How often the best are measured again.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for one shape in one round.")] = 1.0,
    as_json: AsJson = False,
    lists: Annotated[bool, typer.Option("--list", help="Print the stored choices.")] = False,
    forgets: Annotated[bool, typer.Option("--forget", help="Drop what is stored for the model.")] = False,
    cache_dir: CacheDir = None,
) -> None:
    """Measure what could compute a model on this machine; `backend: auto` serves it by the best."""
    from app.errors import PipeserveError
    from app.tuning.choices import FILE, Choices, Machine

    settings = Settings(cache_dir=cache_dir or default_cache_dir(), log_level="critical")
    choices = Choices(settings.cache_dir / FILE)
    try:
        if lists:
            _print_choices(choices, Machine.here(_environments(models, settings)), as_json=as_json)
        elif model is None:
            fail("Name the MODEL, or say --list.")
        elif forgets:
            _forget(choices, model, models)
        else:
            spec = asyncio.run(_find(model, models, task))
            workload = _workload(spec, batches, texts)
            _tune(
                spec,
                workload,
                settings,
                choices,
                Machine.here(_environments(models, settings)),
                effort=_effort(rounds, seconds),
                aim=aim.value,
                max_difference=max_difference,
                as_json=as_json,
            )
    except PipeserveError as error:
        fail(error.message)
    except KeyboardInterrupt:
        typer.echo("Stopped; nothing is stored.", err=True)
        raise typer.Exit(_INTERRUPTED) from None


# What is to be tuned


async def _find(model: str, file: Path, task: str | None) -> ModelSpec:
    """Raises PipeserveError."""
    from app.errors import InvalidInput

    if task is not None and declared(model, file) is not None:
        raise InvalidInput(f"{model} is an entry of {file}, which says its task: leave --task out.")
    return await find_model(model, file, task)


def _environments(file: Path, settings: Settings) -> Environments:
    from app.environments.places import environments_of

    return environments_of(catalog_of(file), settings.cache_dir)


def _workload(spec: ModelSpec, batches: str, texts: Path | None) -> Workload:
    from app.tuning.candidates import check_tunable
    from app.tuning.workload import make_workload, read_texts

    check_tunable(spec)
    return make_workload(spec, batches=_parsed_batches(batches), texts=None if texts is None else read_texts(texts))


def _parsed_batches(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and 0 < int(part) <= 4096 for part in parts):
        raise typer.BadParameter(f"{text} is not a list of numbers such as 1,8,32.", param_hint="--batches")
    return [int(part) for part in parts]


def _effort(rounds: int, seconds: float) -> Effort:
    from app.tuning.tuner import Effort

    return Effort(rounds=rounds, shape_s=seconds)


# Tuning


def _tune(
    spec: ModelSpec,
    workload: Workload,
    settings: Settings,
    choices: Choices,
    machine: Machine,
    *,
    effort: Effort,
    aim: str,
    max_difference: float | None,
    as_json: bool,
) -> None:
    with _progress() as tell:
        report = asyncio.run(_measure(spec, workload, settings, machine, effort, aim, max_difference, tell))
    stored = _store(spec, report, choices, machine)
    if as_json:
        typer.echo(json.dumps(_as_json(spec, report, machine), indent=2))
    else:
        _print_report(spec, report, stored, settings)
    if stored is None:
        raise typer.Exit(1)


async def _measure(
    spec: ModelSpec,
    workload: Workload,
    settings: Settings,
    machine: Machine,
    effort: Effort,
    aim: str,
    max_difference: float | None,
    tell: Tell,
) -> Report:
    from app.fleet.handle import Limits
    from app.fleet.launcher import EnvironmentsLauncher, make_launcher
    from app.fleet.memory import placed
    from app.tuning.candidates import candidates, reference
    from app.tuning.report import Aim
    from app.tuning.tuner import Tuner

    launcher = EnvironmentsLauncher(
        make_launcher(settings), machine.environments, log_level=settings.log_level, cache_dir=settings.cache_dir
    )

    def put(candidate: Candidate) -> Candidate:
        where = machine.devices.place(candidate.spec)[0]
        return replace(candidate, spec=placed(candidate.spec, where))

    limits = Limits(
        heartbeat_s=settings.load_heartbeat_timeout_s,  # nobody waits for an answer: a busy machine is borne with
        load_heartbeat_s=settings.load_heartbeat_timeout_s,
        forward_s=settings.forward_timeout_s,
    )
    tuner = Tuner(
        launcher,
        workload,
        put(reference(spec)),
        cores=machine.cores,
        effort=effort,
        limits=limits,
        aim=Aim(aim),
        max_difference=max_difference,
        tell=tell,
    )
    try:
        await launcher.start()
        return await tuner.run([put(candidate) for candidate in candidates(spec)])
    finally:
        await launcher.stop()


def _store(spec: ModelSpec, report: Report, choices: Choices, machine: Machine) -> Choice | None:
    from app.errors import ModelFailed
    from app.tuning.choices import Choice, key_of

    row = report.choice
    if row is None:
        return None
    device = machine.device(spec)
    choice = Choice(
        model=spec.model,
        revision=spec.revision,
        tasks=list(spec.tasks),
        device=device,
        keys=dict(row.candidate.keys),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        circumstances=machine.circumstances(row.candidate.spec),
        aim=report.aim.value,
        speedup=report.speedup(row),
        difference=None if row.loss is None else row.loss.worst,
        bound=report.bound,
        rows=report.measured(),
    )
    try:
        choices.keep(key_of(spec, device), choice)
    except OSError as error:
        raise ModelFailed(f"The choice cannot be stored: {error}") from None
    return choice


def _forget(choices: Choices, model: str, file: Path) -> None:
    spec = declared(model, file)
    names = {model, str(Path(model).expanduser().resolve()), *([] if spec is None else [spec.model])}
    found = [key for key, choice in choices.all().items() if choice.model in names]
    if found:
        choices.forget(found)
    typer.echo(f"{len(found)} forgotten." if found else f"Nothing is stored for {model}.")


# What is printed


@contextmanager
def _progress() -> Iterator[Tell]:
    """What is being done: a line that changes in a terminal, else a line for each candidate, on stderr."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda name, what: status.update(f"{name}: {what}")
        return
    told: set[str] = set()

    def tell(name: str, what: str) -> None:
        if what.startswith("load") and (line := f"{name}{what.removeprefix('load')}") not in told:
            told.add(line)
            typer.echo(line, err=True)

    yield tell


def _print_report(spec: ModelSpec, report: Report, stored: Choice | None, settings: Settings) -> None:
    print_table(_report_table(report))
    typer.echo(
        f"A request of one input in ms, of more in inputs per second; {spec.tasks[0]}; at most"
        f" {report.bound:g} from torch in float32 is allowed."
    )
    for row in report.rows:
        if row.problem is not None:
            typer.echo(f"{row.name}: {row.problem}")
    if stored is None:
        typer.echo("Nothing is chosen: no candidate could be measured.", err=True)
        return
    typer.echo(f"Chosen: {stored.name}{_figures(stored)}.")
    inexact = report.faster_but_less_exact
    if inexact is not None and inexact.loss is not None:
        ratio = report.speedup(inexact)
        shown = "" if ratio is None else f", {ratio:.2f} × plain torch"
        typer.echo(
            f"Faster, but less exact: {inexact.name}{shown}; --max-difference {_above(inexact.loss.worst):g} allows it."
        )
    if spec.backend == "auto":
        typer.echo(f"Entries with `backend: auto` are served so from the next start on ({settings.cache_dir}).")
    else:
        typer.echo("Say `backend: auto` in its entry to have it served so.")


def _figures(choice: Choice) -> str:
    speed = "" if choice.speedup is None else f", {choice.speedup:.2f} × plain torch"
    return speed + ("" if choice.difference is None else f", largest difference {_small(choice.difference)}")


def _small(value: float) -> str:
    return f"{value:.1e}" if value > _NOTHING else "0"


def _above(value: float) -> float:
    """Rounded up to one digit."""
    if value <= 0:
        return 0.0
    unit: float = 10.0 ** math.floor(math.log10(value))
    return math.ceil(value / unit) * unit


def _report_table(report: Report) -> Table:
    from app.fleet.memory import show_bytes

    table = new_table()
    table.add_column("candidate", no_wrap=True)
    for shape in report.shapes:
        table.add_column(f"{shape} {'ms' if shape.batch == 1 else '/s'}", justify="right")
    for name in ("× plain", "memory", "first load", "load", "difference", "1 - cosine"):
        table.add_column(name, justify="right")
    choice = report.choice
    for row in report.rows:
        ratio = report.speedup(row)
        first_s = row.load_s[0] if row.load_s else None
        distance = None if row.loss is None else row.loss.cosine_distance
        table.add_row(
            f"{row.name} *" if row is choice else row.name,
            *(_cell(row, shape) for shape in report.shapes),
            "" if ratio is None else f"{ratio:.2f}",
            "" if row.memory_bytes is None else show_bytes(row.memory_bytes),
            "" if first_s is None else f"{first_s:.1f} s",
            "" if row.steady_load_s is None or len(row.load_s) < 2 else f"{row.steady_load_s:.1f} s",
            "" if row.loss is None else _small(row.loss.difference),
            "" if distance is None else _small(distance),
        )
    return table


def _cell(row: Row, shape: Any) -> str:
    latency_s, speed = row.latency_s(shape), row.inputs_per_s(shape)
    if latency_s is None or speed is None:
        return "-"
    value = latency_s * 1000 if shape.batch == 1 else speed
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _print_choices(choices: Choices, machine: Machine, *, as_json: bool) -> None:

    found = choices.all()
    if as_json:
        print_json(list(found.values()))
        return
    if not found:
        typer.echo("Nothing is stored.")
        return
    table = new_table()
    for name in ("model", "tasks", "device", "choice", "× plain", "difference", "for", "at", "state"):
        table.add_column(name, no_wrap=True)
    for choice in found.values():
        changes = choice.circumstances.changes(machine.seen_from(choice.circumstances))
        table.add_row(
            choice.model,
            ", ".join(choice.tasks),
            choice.device,
            choice.name,
            "" if choice.speedup is None else f"{choice.speedup:.2f}",
            "" if choice.difference is None else _small(choice.difference),
            choice.aim,
            choice.at,
            f"not used: {'; '.join(changes)}" if changes else "used",
        )
    print_table(table)


def _as_json(spec: ModelSpec, report: Report, machine: Machine) -> dict[str, Any]:
    choice = report.choice
    return {
        "id": spec.id,
        "task": spec.tasks[0],
        "device": machine.device(spec),
        "threads": machine.circumstances(spec).threads,
        "for": report.aim.value,
        "bound": report.bound,
        "choice": None if choice is None else dict(choice.candidate.keys),
        "candidates": report.measured(),
    }
