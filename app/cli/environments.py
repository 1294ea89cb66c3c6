"""`pipeserve env`: the Python environments of workers whose libraries cannot be installed beside the server's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.printing import fail
from app.settings import CACHE_DIR_VARIABLE, default_cache_dir

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


@env.command()
def create(
    name: Name,
    requirements: Annotated[
        Path | None,
        typer.Option(help="A requirements file for pip. [default: the one that is shipped for NAME]"),
    ] = None,
    python: Annotated[Path, typer.Option(help="The Python to build it with, 3.11 or newer.")] = Path(sys.executable),
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Even if it is there and up to date.")] = False,
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
            typer.echo(f"{name} is there and up to date ({folder / name}); --rebuild builds it again.")
            return
        place = building.create(name, folder, requirements, modules_of(name), python=str(python), say=typer.echo)
    except building.EnvironmentProblem as error:
        fail(str(error))
    typer.echo(f"{name} is ready: {place}, {_shown(building.size_of(place))}")


@env.command("list")
def list_environments(cache_dir: CacheDir = None) -> None:
    """Those that are shipped and those that were built: state, Python and size."""
    from app.environments import building
    from app.environments.places import environments_folder
    from app.environments.shipped import SHIPPED

    folder = environments_folder(cache_dir or default_cache_dir())
    built = {place.name for place in folder.iterdir() if place.name[0] != "."} if folder.is_dir() else set()
    for name in sorted(built | set(SHIPPED)):
        state = building.state_of(folder / name)
        if state is None:
            what = SHIPPED[name].what if name in SHIPPED else f"{folder / name} is no environment"
            typer.echo(f"{name:14} not built  {what}")
            continue
        is_current = name not in SHIPPED or building.is_built_from(state, SHIPPED[name].requirements)
        size = _shown(building.size_of(folder / name))
        typer.echo(
            f"{name:14} {'ready' if is_current else 'outdated':10} Python {state.python}, {size}, {folder / name}"
        )


@env.command()
def check(
    name: Name,
    python: Annotated[
        Path | None,
        typer.Option(help="Check this Python instead of the one that was built, as one that models.yaml declares."),
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Import there what a worker of it imports, and print the versions of its libraries."""
    from app.environments import building
    from app.environments.places import Environments, environments_folder
    from app.environments.shipped import SHIPPED, modules_of

    folder = environments_folder(cache_dir or default_cache_dir())
    try:
        environments = Environments(folder, {} if python is None else {name: str(python)})
        if (problem := environments.problem(name)) is not None:
            fail(problem)
        found = building.probe(environments.python(name), folder, modules_of(name))
    except building.EnvironmentProblem as error:
        fail(str(error))
    for module, why in found.broken.items():
        typer.echo(f"FAILED  {name}: {module} is installed but cannot be imported, which breaks transformers: {why}")
    for module, why in found.failed.items():
        typer.echo(f"FAILED  {name}: {module}: {why}")
    if found.broken or found.failed:
        raise typer.Exit(1)
    named = building.names_in(SHIPPED[name].requirements) if name in SHIPPED else ["torch", "transformers"]
    versions = ", ".join(f"{one} {found.versions[one]}" for one in named if one in found.versions)
    typer.echo(f"ok      {name}: Python {found.python}, {versions}")


@env.command()
def remove(name: Name, cache_dir: CacheDir = None) -> None:
    """Delete an environment that was built. Workers that run in it fail at what they have not imported yet."""
    from app.environments import building
    from app.environments.places import environments_folder

    try:
        num_bytes = building.remove(name, environments_folder(cache_dir or default_cache_dir()))
    except building.EnvironmentProblem as error:
        fail(str(error))
    typer.echo(f"{name} is removed; {_shown(num_bytes)} are free again.")


def _shown(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB"
