"""What `pipeserve push NAME` publishes: an entry's model, one of its adapters, an export that was made of it, or a
folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.exports import exports_of, has_network, name_of_export, named_export

if TYPE_CHECKING:
    from app.catalog import ModelSpec
    from app.made_files import Kept

WEIGHTS = "weights"
"""The variant that is the model itself."""
_TASKS_OF_ADAPTERS = {
    "CAUSAL_LM": "text-generation",
    "FEATURE_EXTRACTION": "feature-extraction",
    "QUESTION_ANS": "question-answering",
    "SEQ_2_SEQ_LM": "text2text-generation",
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
}
"""By PEFT's own names of them."""
_NOT_OF_THE_HUB = ("custom", "decision")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """folder: absolute. task: as the Hub's pages call it. base: the id of a repository that it is made of. export:
    stands in place of the folder's weights."""

    name: str
    folder: Path
    is_adapter: bool = False
    task: str | None = None
    base: str | None = None
    export: Kept | None = None

    @property
    def kind(self) -> str:
        if self.export is not None:
            return f"its export {name_of_export(self.export.recipe)}"
        return "an adapter" if self.is_adapter else "a model"


def find_subject(name: str, models: Path, cache_dir: Path, variant: str | None) -> Subject:
    """variant: None: what the entry is served by. Raises ModelFailed and CatalogError."""
    from app.errors import ModelFailed

    specs = _declared(models, cache_dir)
    for spec in specs:
        names = (spec.id, *spec.aliases)
        if name in names:
            return _of_entry(name, spec, variant, cache_dir)
        for adapter in spec.adapters:
            if name in (adapter.id, *(f"{one}:{adapter.id}" for one in names)):
                if variant not in (None, WEIGHTS):
                    raise ModelFailed(f"{name} is an adapter: there are no exports of one.")
                place = _folder(name, spec, adapter.path, adapter.revision)
                _check_adapter(place)
                base = None if Path(spec.model).is_absolute() else spec.model
                return Subject(name=name, folder=place, is_adapter=True, task=_task(spec), base=base)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _of_folder(name, folder.resolve(), variant, cache_dir)
    known = [one.name for spec in specs for one in spec.with_adapters()]
    there = f"; {models} has {', '.join(known)}" if known else ""
    raise ModelFailed(f"{name} is neither a folder nor an entry of {models}{there}.")


def _declared(models: Path, cache_dir: Path) -> tuple[ModelSpec, ...]:
    """As they are served, tuned ones too. Raises CatalogError."""
    from app.cli.finding import DEFAULT_MODELS
    from app.reloading import Source

    return () if models == DEFAULT_MODELS and not models.exists() else Source(models, cache_dir).read().models


def _of_entry(name: str, spec: ModelSpec, variant: str | None, cache_dir: Path) -> Subject:
    from app.declaration.exports import export_names, makes_exports, standing

    folder = _folder(name, spec, spec.model, spec.revision)
    base = None if Path(spec.model).is_absolute() else spec.model
    subject = Subject(name=name, folder=folder, task=_task(spec), base=base or _base_in(folder))
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if variant is None and makes_exports(spec.backend) and not standing(export_names(spec), names):
        variant = named_export(spec.backend, spec.quantization, spec.optimization, spec.dtype)
    return _with_variant(subject, variant, cache_dir)


def _of_folder(name: str, folder: Path, variant: str | None, cache_dir: Path) -> Subject:
    from app.catalog import ADAPTER_CONFIG, read_entry
    from app.errors import CatalogError

    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        _check_adapter(folder)
        kind = _TASKS_OF_ADAPTERS.get(str(_json(folder / ADAPTER_CONFIG).get("task_type")))
        return Subject(name=name, folder=folder, is_adapter=True, task=kind)
    try:
        task = _task(read_entry({"model": str(folder)}, Path()))
    except CatalogError:
        task = None
    subject = Subject(name=name, folder=folder, task=task, base=_base_in(folder))
    return _with_variant(subject, variant, cache_dir)


def _with_variant(subject: Subject, variant: str | None, cache_dir: Path) -> Subject:
    """Raises ModelFailed."""
    from app.errors import ModelFailed

    if variant in (None, WEIGHTS):
        _check_model(subject)
        return subject
    exports = _exports(subject, cache_dir)
    found = next((kept for kept in exports if name_of_export(kept.recipe) == variant), None)
    if found is None:
        there = ", ".join(dict.fromkeys(name_of_export(kept.recipe) for kept in exports))
        raise ModelFailed(
            f"There is no export {variant} of {subject.name} in {cache_dir}{there and f', only {there}'}. One is made"
            " when an entry that says so is loaded, and by `pipeserve tune`; --variant weights pushes the model itself."
        )
    return replace(subject, export=found)


def _exports(subject: Subject, cache_dir: Path) -> list[Kept]:
    """Those of the subject's task first, then the last made."""
    return sorted(
        exports_of(subject.folder, cache_dir), key=lambda kept: not kept.recipe.task.startswith(subject.task or "")
    )


def _folder(name: str, spec: ModelSpec, place: str, revision: str | None) -> Path:
    """Raises ModelFailed."""
    import msgspec

    from app.errors import ModelFailed
    from app.fleet.memory import cached_folder

    if Path(place).is_absolute():
        if not Path(place).is_dir():
            raise ModelFailed(f"The folder {place} of {name} does not exist.")
        return Path(place)
    folder = cached_folder(msgspec.structs.replace(spec, model=place, revision=revision))
    if folder is None:
        raise ModelFailed(f"{place} is not on this machine: `pipeserve pull {spec.id}` downloads it.")
    return folder


def _check_adapter(folder: Path) -> None:
    from app.catalog import ADAPTER_CONFIG
    from app.errors import ModelFailed

    if not (folder / ADAPTER_CONFIG).is_file() or not any(folder.glob("adapter_model*")):
        raise ModelFailed(f"{folder} holds no adapter of PEFT's: it needs {ADAPTER_CONFIG} and adapter_model.")


def _check_model(subject: Subject) -> None:
    """Raises ModelFailed where nobody could load what would be there."""
    from app.errors import ModelFailed
    from app.fetching import has_weights

    folder = subject.folder
    if (folder / "handler.py").is_file():
        return
    if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
        raise ModelFailed(f"{folder} holds no model: neither config.json nor adapter_config.json nor handler.py.")
    if not has_weights(folder, allow_pickle=True) and not has_network(folder):
        hint = f" `pipeserve pull {subject.name}` downloads them." if folder.parent.name == "snapshots" else ""
        raise ModelFailed(f"{folder} does not hold all weights of its model.{hint}")


def _task(spec: ModelSpec) -> str | None:
    return spec.tasks[0] if spec.tasks and spec.tasks[0] not in _NOT_OF_THE_HUB else None


def _base_in(folder: Path) -> str | None:
    """What a model's configuration says that it came from."""
    from app.hub import is_repository

    named = _json(folder / "config.json").get("_name_or_path")
    return named if is_repository(named) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
