"""What `MODEL` on a command line is: an entry of models.yaml, a task's default model, or a model by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.client import named_task, task_of
from app.settings import Settings

if TYPE_CHECKING:
    from app.catalog import Catalog, ModelSpec
    from app.cli.server import Server
    from app.tasks.base import Task

DEFAULT_MODELS = Settings().models


async def find_model(model: str, file: Path, task: str | None) -> ModelSpec:
    """The entry of the file, else one made of the model and the task. Its task is known. Raises PipeserveError."""
    from app.catalog import read_entry
    from app.errors import ModelFailed
    from app.resolving import resolve

    spec = _declared_with_adapter(model, file)
    if spec is None:
        spec = read_entry(entry_of(model, task), Path.cwd())
    if not spec.is_resolved and spec.problem is None:
        spec = await resolve(spec)
    if spec.problem is not None:
        raise ModelFailed(spec.problem)
    return spec


def entry_of(model: str, task: str | None) -> dict[str, Any]:
    """The keys of an entry that is made of what the command line says."""
    if named_task(model, task) is not None:
        return {"backend": "auto", "task": model}
    return {"backend": "auto", "model": model, **({} if task is None else {"task": task})}


def serves(catalog: Catalog, model: str) -> bool:
    """Whether a server of it would answer for this model, adapter or task."""
    from app.tasks.registry import ALIASES

    task = ALIASES.get(model, model)
    return any(
        model in (spec.id, *spec.aliases, *(one.name for one in spec.with_adapters())) or task in spec.all_tasks
        for spec in catalog.models
    )


def changed(spec: ModelSpec, changes: dict[str, Any]) -> ModelSpec:
    """The entry as it would be with these keys. Raises InvalidInput, ModelFailed."""
    import msgspec

    from app.catalog import with_right_keys
    from app.declaration.backends import AUTO, BACKENDS, TORCH
    from app.errors import InvalidInput, ModelFailed
    from app.tuning.candidates import with_keys

    if not changes:
        return spec
    if unknown := set(changes) - set(spec.__struct_fields__):
        raise InvalidInput(f"{', '.join(sorted(unknown))}: no entry has such a key.")
    keys = {"backend": TORCH.name if spec.backend == AUTO else spec.backend, **changes}
    if keys["backend"] not in BACKENDS:
        raise InvalidInput(f"backend: {keys['backend']} is none; there are {', '.join(BACKENDS)}.")
    try:
        found = with_right_keys(msgspec.convert(msgspec.to_builtins(with_keys(spec, keys)), type(spec)))
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{spec.id} with {changes}: {error}.") from None
    if found.problem is not None:
        raise ModelFailed(found.problem)
    return found


def find_served(server: Server, model: str, task: str | None) -> tuple[str | None, Task]:
    """Of a server that runs: the model's name, None for its first, and the task. Raises Trouble, PipeserveError."""
    from app.cli.server import Trouble

    try:
        card = server.model(model)
    except Trouble as trouble:
        if trouble.status != 404 or (wanted := named_task(model, task)) is None:
            raise
        return None, wanted
    return model, task_of(card, task)


def declared(model: str, file: Path) -> ModelSpec | None:
    return next((spec for spec in catalog_of(file).models if model in (spec.id, *spec.aliases)), None)


def _declared_with_adapter(name: str, file: Path) -> ModelSpec | None:
    """As requests name it: by an adapter's own id, or `id:adapter`, too. Raises NotServed for one that it has not."""
    from app.errors import NotServed
    from app.fleet.directory import Directory

    try:
        return Directory(catalog_of(file).models).get(name)
    except NotServed:
        if declared(name.partition(":")[0], file) is not None:
            raise
        return None


def catalog_of(file: Path) -> Catalog:
    """One without entries where there is no file, unless it was asked for."""
    from app.catalog import Catalog, read_catalog

    return Catalog(models=()) if file == DEFAULT_MODELS and not file.exists() else read_catalog(file)
