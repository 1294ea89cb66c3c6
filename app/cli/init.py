"""`pipeserve init`: a models.yaml, by asking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.completion import task_names
from app.cli.printing import fail

_HEAD = """\
# What `pipeserve serve` serves: each model is loaded at its first request. Every key: docs/models-yaml.md.
# `pipeserve check` tells whether this file is right, `pipeserve pull` downloads what it names.

defaults:
  keep_alive: {keep_alive}  # unload so long after the last use; 0 at once, -1 never

models:
"""
_KEEP_ALIVE = "10m"


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("models.yaml"),
    task: Annotated[
        list[str] | None,
        typer.Option(help="Do not ask: these tasks, each with its usual model.", autocompletion=task_names),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Do not ask: these models, of the Hub or folders; tasks are read from them."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a models.yaml: asks which tasks it is for and with which models, or takes them from options."""
    from app.catalog import read_catalog
    from app.errors import CatalogError

    if file.exists() and not force:
        fail(f"{file} is there already; --force writes over it.")
    if task or model:
        entries = [_entry(_task(one)) for one in task or []] + [{"model": one} for one in model or []]
        keep_alive = _KEEP_ALIVE
    else:
        entries = _asked()
        keep_alive = typer.prompt("Unload a model how long after its last use (-1: never)?", default=_KEEP_ALIVE)
    text = _HEAD.format(keep_alive=keep_alive) + "".join(f"  - {_line(entry)}\n" for entry in entries)
    new = file.with_name(f".{file.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        read_catalog(new)
        new.replace(file)
    except (CatalogError, OSError) as error:
        new.unlink(missing_ok=True)
        fail(str(error).replace(str(new), str(file)))
    typer.echo(f"wrote {file} with {len(entries)} models; `pipeserve serve --models {file}` serves them.")


def _asked() -> list[dict[str, str]]:
    """Entries, one after the other, until enough."""
    from app.tasks.registry import TASKS

    names = list(TASKS)
    typer.echo("Tasks:")
    for number, name in enumerate(names, 1):
        typer.echo(f"  {number:2}  {name}  ({TASKS[name].default_model})")
    entries: list[dict[str, str]] = []
    while True:
        answer = typer.prompt("Which task, by name or number (Enter: that is all)", default="", show_default=False)
        if not answer and entries:
            return entries
        if answer.isdecimal() and 0 < int(answer) <= len(names):
            answer = names[int(answer) - 1]
        try:
            task = _task(answer)
        except typer.BadParameter as error:
            typer.echo(str(error))
            continue
        entries.append({**_entry(task), "model": typer.prompt("With which model", default=TASKS[task].default_model)})


def _entry(task: str) -> dict[str, str]:
    """With its usual model."""
    from app.tasks.registry import TASKS

    return {"task": task, "model": TASKS[task].default_model}


def _line(entry: dict[str, str]) -> str:
    import yaml

    return str(yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=10_000)).strip()


def _task(text: str) -> str:
    """Its own name, for one of its names. Raises BadParameter."""
    from app.declaration.form import did_you_mean
    from app.tasks.registry import ALIASES, TASKS

    name = ALIASES.get(text.strip(), text.strip())
    if name not in TASKS:
        raise typer.BadParameter(f'there is no task "{text}"{did_you_mean(text, [*TASKS, *ALIASES])}.')
    return name
