"""`pipeserve env`: the Python environments of workers whose libraries cannot be installed beside the server's."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.printing import AsJson, fail, print_json
from app.settings import CACHE_DIR_VARIABLE, default_cache_dir

if TYPE_CHECKING:
    from app.environments.building import Found

env = typer.Typer(
    help="Build, list, check and remove the Python environments of workers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _name(text: str) -> str:
    from app.declaration.form import environment_name

    try:
        return environment_name(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Name = Annotated[str, typer.Argument(metavar="NAME", parser=_name, help="Such as optimum.")]
CacheDir = Annotated[
    Path | None,
    typer.Option(envvar=CACHE_DIR_VARIABLE, help="What the server remembers. [default: ~/.cache/pipeserve]"),
]
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Row:
    """state: ready, outdated or not built. python, size_bytes: of one that is built."""

    name: str
    state: str
    python: str | None
    size_bytes: int | None
    folder: str


@env.command()
def create(
    name: Name,
    requirements: Annotated[
        Path | None,
        typer.Option(help="A requirements file for pip. [default: the one that is shipped for NAME]"),
    ] = None,
    python: Annotated[Path, typer.Option(help="The Python to build it with, 3.11 or newer.")] = Path(sys.executable),
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Even if it is there and up to date.")] = False,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> None:
    """Build an environment with pip. The one that is there, if any, serves until the new one is complete."""
    from app.environments import building
    from app.environments.places import environments_folder
    from app.environments.shipped import SHIPPED, modules_of

    folder = environments_folder(cache_dir or default_cache_dir())
    try:
        if requirements is None:
            if name not in SHIPPED:
                fail(f'nothing is shipped for "{name}", only for {", ".join(SHIPPED)}; give --requirements FILE.')
            requirements = SHIPPED[name].requirements
        if not requirements.is_file():
            fail(f"there is no file {requirements}.")
        state = building.state_of(folder / name)
        if state is not None and not rebuild and building.is_built_from(state, requirements):
            told = f"{name} is there and up to date ({folder / name}); --rebuild builds it again."
        else:
            say = partial(typer.echo, err=True)
            place = building.create(name, folder, requirements, modules_of(name), python=str(python), say=say)
            told = f"{name} is ready: {place}, {_shown(building.size_of(place))}"
    except building.EnvironmentProblem as error:
        fail(str(error))
    if as_json:
        print_json(_row(name, folder))
    else:
        typer.echo(told)


@env.command("list")
def list_environments(as_json: AsJson = False, cache_dir: CacheDir = None) -> None:
    """Those that are shipped and those that were built: state, Python and size."""
    from app.environments.places import environments_folder
    from app.environments.shipped import SHIPPED

    folder = environments_folder(cache_dir or default_cache_dir())
    built = {place.name for place in folder.iterdir() if place.name[0] != "."} if folder.is_dir() else set()
    rows = [_row(name, folder) for name in sorted(built | set(SHIPPED))]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        if row.python is None:
            what = SHIPPED[row.name].what if row.name in SHIPPED else f"{row.folder} is no environment"
        else:
            what = f"Python {row.python}, {_shown(row.size_bytes or 0)}, {row.folder}"
        typer.echo(f"{row.name:14} {row.state:10} {what}")


def _row(name: str, folder: Path) -> Row:
    """folder: of the environments."""
    from app.environments import building
    from app.environments.shipped import SHIPPED

    state, place = building.state_of(folder / name), str(folder / name)
    if state is None:
        return Row(name=name, state="not built", python=None, size_bytes=None, folder=place)
    is_current = name not in SHIPPED or building.is_built_from(state, SHIPPED[name].requirements)
    size_bytes = building.size_of(folder / name)
    kept = "ready" if is_current else "outdated"
    return Row(name=name, state=kept, python=state.python, size_bytes=size_bytes, folder=place)


@env.command()
def check(
    name: Name,
    python: Annotated[
        Path | None,
        typer.Option(help="Check this Python instead of the one that was built, as one that models.yaml declares."),
    ] = None,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> None:
    """Import there what a worker of it imports, and print the versions of its libraries."""
    from app.environments import building
    from app.environments.places import Environments, environments_folder
    from app.environments.shipped import modules_of

    folder = environments_folder(cache_dir or default_cache_dir())
    try:
        environments = Environments(folder, {} if python is None else {name: str(python)})
        if (problem := environments.problem(name)) is not None:
            fail(problem)
        found = building.probe(environments.python(name), folder, modules_of(name))
    except building.EnvironmentProblem as error:
        fail(str(error))
    if as_json:
        print_json({"name": name, "found": found})
    else:
        _print_found(name, found)
    if found.broken or found.failed:
        raise typer.Exit(1)


def _print_found(name: str, found: Found) -> None:
    from app.environments import building
    from app.environments.shipped import SHIPPED

    for module, why in found.broken.items():
        typer.echo(f"FAILED  {name}: {module} is installed but cannot be imported, which breaks transformers: {why}")
    for module, why in found.failed.items():
        typer.echo(f"FAILED  {name}: {module}: {why}")
    if found.broken or found.failed:
        return
    named = building.names_in(SHIPPED[name].requirements) if name in SHIPPED else ["torch", "transformers"]
    versions = ", ".join(f"{one} {found.versions[one]}" for one in named if one in found.versions)
    typer.echo(f"ok      {name}: Python {found.python}, {versions}")


@env.command()
def remove(name: Name, as_json: AsJson = False, cache_dir: CacheDir = None) -> None:
    """Delete an environment that was built. Workers that run in it fail at what they have not imported yet."""
    from app.environments import building
    from app.environments.places import environments_folder

    try:
        num_bytes = building.remove(name, environments_folder(cache_dir or default_cache_dir()))
    except building.EnvironmentProblem as error:
        fail(str(error))
    if as_json:
        print_json({"name": name, "freed_bytes": num_bytes})
    else:
        typer.echo(f"{name} is removed; {_shown(num_bytes)} are free again.")


def _shown(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB"
