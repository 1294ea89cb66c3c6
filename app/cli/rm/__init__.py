"""`pipeserve rm`: the files of models out of the caches of this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.completion import model_names
from app.cli.environments import CacheDir
from app.cli.finding import DEFAULT_MODELS
from app.cli.printing import AsJson, fail, new_table, print_json, print_table
from app.cli.server import DEFAULT_URL, Trouble, Url
from app.settings import default_cache_dir

if TYPE_CHECKING:
    from app.catalog import Catalog
    from app.cli.rm.plan import Removal, Wanted


def rm(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Entries of models.yaml, ENTRY:ADAPTER, or repositories of the Hub.",
            autocompletion=model_names,
        ),
    ] = None,
    unused: Annotated[
        bool, typer.Option("--unused", help="All models in the Hub's cache that models.yaml does not name.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Only this one. Unset: the entry's, else all.")] = None,
    exports: Annotated[
        bool, typer.Option("--exports", help="As well what was made of their files: exports for onnx, openvino, ...")
    ] = False,
    environment: Annotated[
        bool, typer.Option("--environment", help="As well the Python environment of their workers.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even if a server has them loaded.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, remove nothing.")] = False,
    as_json: AsJson = False,
    models: Annotated[
        Path, typer.Option("--models", "-m", envvar="PIPESERVE_MODELS", help="The catalogue of models.")
    ] = DEFAULT_MODELS,
    cache_dir: CacheDir = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Remove the files of models from the Hub's cache, and what was made of them. Folders of your own stay.

    What goes is shown first, with how much it frees. The Hub's cache is that of all programs of this user.
    """
    from app.errors import PipeserveError

    if bool(names) == unused:
        raise typer.BadParameter("say which models, or --unused.", param_hint="NAME")
    if unused and revision is not None:
        raise typer.BadParameter("it is for models that are named.", param_hint="--revision")
    source = context.get_parameter_source("url")
    is_sure = source is not None and source.name != "DEFAULT"  # the enumeration is click's, or typer's copy of it
    try:
        catalog = _catalog(models, cache_dir or default_cache_dir(), is_needed=unused)
        wanted, removals = _found(
            names or (), catalog, cache_dir or default_cache_dir(), revision, exports=exports, environment=environment
        )
        if removals and not force and not dry_run:
            _check_not_loaded(url, wanted, is_sure=is_sure)
        _show(removals, wanted, catalog, as_json=as_json)
        is_agreed = not dry_run and bool(removals) and (yes or _agreed(removals, as_json=as_json))
        done = _removed(removals) if is_agreed else []
    except (PipeserveError, Trouble) as error:
        fail(error.whole if isinstance(error, Trouble) else error.message)
    _tell(removals, done, is_dry=dry_run, as_json=as_json)


def _catalog(models: Path, cache_dir: Path, *, is_needed: bool) -> Catalog:
    """As it is served. is_needed: a file that is not there is an error. Raises CatalogError."""
    from app.catalog import Catalog
    from app.reloading import Source

    if not is_needed and models == DEFAULT_MODELS and not models.exists():
        return Catalog(models=())
    return Source(models, cache_dir).read()


def _found(
    names: Sequence[str],
    catalog: Catalog,
    cache_dir: Path,
    revision: str | None,
    *,
    exports: bool,
    environment: bool,
) -> tuple[list[Wanted], list[Removal]]:
    """No names: what no entry has. Raises ModelFailed, also for a name that there is nothing of."""
    from app.cli.rm import plan

    cache = plan.scan()
    wanted = [plan.find_wanted(name, revision, catalog) for name in names] or plan.unused(cache, catalog)
    removals: dict[tuple[str, str], Removal] = {}  # two entries may have the same files
    for one in wanted:
        found = plan.files_of(one, cache)
        found += plan.exports_of(one, cache_dir) if exports else ()
        found += plan.environment_of(one, catalog, cache_dir) if environment else ()
        if not found:
            _fail_of_nothing(one, exports=exports)
        removals |= {(removal.kind, removal.name): removal for removal in found}
    return wanted, list(removals.values())


def _fail_of_nothing(wanted: Wanted, *, exports: bool) -> None:
    from app.errors import ModelFailed

    if wanted.is_folder:
        hint = "there is no export of it in the cache" if exports else "--exports removes what was made of it"
        raise ModelFailed(f"{wanted.name} is a folder of yours, {wanted.place}, which stays; {hint}.")
    at = "" if wanted.revision is None else f" at {wanted.revision}"
    raise ModelFailed(f"{wanted.place}{at} is not in the cache: there is nothing to remove.")


def _check_not_loaded(url: str, wanted: Sequence[Wanted], *, is_sure: bool) -> None:
    """Raises ModelFailed and Trouble."""
    from app.cli.rm.in_use import loaded
    from app.errors import ModelFailed

    ids = {one.entry.id for one in wanted if one.entry is not None}
    try:
        found = loaded(url, {one.place for one in wanted}, ids, is_sure=is_sure)
    except Trouble as trouble:
        why = f"Whether a server has it loaded is not known: {trouble}"
        raise Trouble(why, "--force removes it all the same.") from None
    if found:
        raise ModelFailed(
            f"{url} has {', '.join(found)} loaded: `pipeserve stop` unloads a model; --force removes its files all the"
            " same."
        )


def _show(removals: Sequence[Removal], wanted: Sequence[Wanted], catalog: Catalog, *, as_json: bool) -> None:
    from app.cli.rm.plan import also_named_by
    from app.fleet.memory import show_bytes

    if as_json or not removals:
        return
    table = new_table()
    table.add_column("WHAT")
    table.add_column("NAME", no_wrap=True)
    table.add_column("FREES", justify="right")
    for removal in removals:
        table.add_row(removal.kind, removal.name, show_bytes(removal.num_bytes))
    print_table(table)
    for one in wanted:
        if others := also_named_by(one, catalog):
            typer.echo(f"{one.place} is what {', '.join(others)} would download again.")


def _agreed(removals: Sequence[Removal], *, as_json: bool) -> bool:
    """Raises ModelFailed where nobody can be asked."""
    from app.errors import ModelFailed
    from app.fleet.memory import show_bytes

    if as_json or not sys.stdin.isatty():
        raise ModelFailed("Nobody is there to be asked, so nothing is removed: --yes removes it.")
    return typer.confirm(f"Remove this, and free {show_bytes(_bytes(removals))}?")


def _removed(removals: Sequence[Removal]) -> list[Removal]:
    """Raises ModelFailed at the first that cannot be."""
    for removal in removals:
        removal.remove()
    return list(removals)


def _tell(removals: Sequence[Removal], done: Sequence[Removal], *, is_dry: bool, as_json: bool) -> None:
    from app.fleet.memory import show_bytes

    if as_json:
        print_json(_as_json(removals, done))
    elif not removals:
        typer.echo("There is nothing to remove.")
    elif done:
        typer.echo(f"Removed: {show_bytes(_bytes(done))} are free again.")
    else:
        told = f"It would free {show_bytes(_bytes(removals))}: this was a dry run." if is_dry else "Nothing is removed."
        typer.echo(told)


def _as_json(removals: Sequence[Removal], done: Sequence[Removal]) -> dict[str, Any]:
    return {
        "found": [{"kind": one.kind, "name": one.name, "bytes": one.num_bytes} for one in removals],
        "bytes": _bytes(removals),
        "is_removed": bool(done),
    }


def _bytes(removals: Sequence[Removal]) -> int:
    return sum(removal.num_bytes for removal in removals)
