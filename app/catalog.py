"""models.yaml -> a frozen `Catalog` of `ModelSpec`s, or the sentences that say what is wrong with it.

Errors of form raise CatalogError. What is wrong with one model's files is that entry's `problem`: it is FAILED from
the start, and the others serve. Nothing here imports torch or transformers, or asks the Hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from app.declaration.form import (
    DEFAULTS,
    LATER_KEYS,
    LATER_TOP_LEVEL_KEYS,
    EntryForm,
    FileForm,
    unknown_key,
)
from app.declaration.inference import FindFile, ModelFilesError, head_of, implied_tasks, infer_task
from app.declaration.text import YamlDocument, YamlError, read_yaml
from app.errors import CatalogError, InvalidInput, NotServed
from app.tasks.base import Task
from app.tasks.registry import TASKS, find_task
from app.tasks.requests import check_defaults


class BatchSpec(msgspec.Struct, frozen=True, kw_only=True):
    max_items: int = 64
    max_tokens: int = 16384  # the padded budget: longest item * number of items
    max_wait_ms: float = 0.0


class QueueSpec(msgspec.Struct, frozen=True, kw_only=True):
    max_items: int = 2048  # permits of this model
    deadline_s: float = 300.0


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of models.yaml, resolved: paths absolute, durations in seconds, sizes in bytes.

    tasks: canonical task names that the entry declares, its own task first; empty while unresolved (the task is to
    be read from a config that is not on disk yet). `implied_tasks` are served as well.
    """

    id: str
    model: str  # Hub id or absolute folder
    aliases: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    implied_tasks: tuple[str, ...] = ()
    revision: str | None = None
    tokenizer: str | None = None
    processor: str | None = None
    image_processor: str | None = None
    feature_extractor: str | None = None
    auto_class: str | None = None
    device: str | None = None  # None: an accelerator where there is one
    dtype: str = "auto"
    backend: str = "torch"
    attn_implementation: str | None = None
    threads: int | None = None
    replicas: int = 1
    batch: BatchSpec = BatchSpec()
    queue: QueueSpec = QueueSpec()
    keep_alive_s: float = 300.0  # 0: unload after the answer; -1: never
    pinned: bool = False
    preload: bool = False
    memory_bytes: int | None = None
    pooling: str | None = None
    normalize: bool | None = None
    parameters: dict[str, Any] = {}
    trust_remote_code: bool = False
    allow_pickle: bool = False
    offline: bool = False
    env: str | None = None
    problem: str | None = None  # why the entry cannot be served: it is FAILED from the start

    @property
    def all_tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.tasks + self.implied_tasks))


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    models: tuple[ModelSpec, ...]
    budget: dict[str, int | float] = {}  # device -> bytes, or a share of the device in 0..1
    max_queue_items: int | None = None
    source: str = ""


def read_catalog(path: Path) -> Catalog:
    """Raises CatalogError: one sentence a line, each naming file, line, entry and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CatalogError(f"{path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path}: it cannot be read: {error}.") from None
    try:
        document = read_yaml(text)
    except YamlError as error:
        where = f"{path}:{error.line}" if error.line is not None else str(path)
        raise CatalogError(f"{where}: {error}") from None
    return _Reader(path, document).read()


class _Reader:
    """Collects everything that is wrong with one file before it says so."""

    def __init__(self, path: Path, document: YamlDocument) -> None:
        self._path = path
        self._document = document
        self._complaints: list[str] = []

    def read(self) -> Catalog:
        value = self._document.value
        if not isinstance(value, dict):
            raise CatalogError(f"{self._path}: it must hold `models:` with a list of entries.")
        for key in value:
            if key not in FileForm.model_fields:
                self._complain((key,), "", unknown_key(key, FileForm.model_fields, LATER_TOP_LEVEL_KEYS))
        self._raise()
        try:
            form = FileForm.model_validate(value)
        except ValidationError as error:
            self._complain_of(error, (), "")
            self._raise()
            raise
        defaults = self._defaults(form.defaults)
        specs = [self._spec(index, entry, defaults) for index, entry in enumerate(form.models)]
        models = tuple(spec for spec in specs if spec is not None)
        self._check_names(models)
        self._raise()
        return Catalog(
            models=models,
            budget=dict(form.budget),
            max_queue_items=form.queue.max_items if "queue" in value else None,
            source=str(self._path),
        )

    def _defaults(self, values: dict[str, Any]) -> dict[str, Any]:
        for key in values:
            if key not in DEFAULTS:
                self._complain(("defaults", key), "defaults", unknown_key(key, DEFAULTS, LATER_KEYS))
        known = {key: value for key, value in values.items() if key in DEFAULTS}
        try:
            EntryForm.model_validate(known)
        except ValidationError as error:
            self._complain_of(error, ("defaults",), "defaults")
            return {}
        return known

    def _spec(self, index: int, values: dict[str, Any], defaults: dict[str, Any]) -> ModelSpec | None:
        path = ("models", index)
        name = values.get("id") or values.get("model") or values.get("task")
        entry = f'models[{index}] "{name}"' if isinstance(name, str) else f"models[{index}]"
        unknown = [key for key in values if key not in EntryForm.model_fields]
        for key in unknown:
            self._complain((*path, key), entry, unknown_key(key, EntryForm.model_fields, LATER_KEYS))
        if unknown:
            return None
        try:
            form = EntryForm.model_validate(_merged(defaults, values))
            tasks = _declared_tasks(form)
            return self._resolved(form, tasks)
        except ValidationError as error:
            self._complain_of(error, path, entry)
        except _FormError as error:
            self._complain((*path, error.key), entry, str(error))
        return None

    def _resolved(self, form: EntryForm, tasks: tuple[str, ...]) -> ModelSpec:
        model = form.model
        revision = form.revision
        if model is None:
            if not tasks:
                raise _FormError("task", "an entry needs `task` or `model`, or both.")
            model, revision = TASKS[tasks[0]].default_model, revision or TASKS[tasks[0]].default_revision
        spec = ModelSpec(
            id=_checked_id(form.id or model),
            model=self._location(model),
            aliases=tuple(form.aliases),
            tasks=tasks,
            revision=revision,
            tokenizer=self._optional_location(form.tokenizer),
            processor=self._optional_location(form.processor),
            image_processor=self._optional_location(form.image_processor),
            feature_extractor=self._optional_location(form.feature_extractor),
            batch=BatchSpec(**form.batch.model_dump()),
            queue=QueueSpec(max_items=form.queue.max_items, deadline_s=form.queue.deadline),
            keep_alive_s=form.keep_alive,
            memory_bytes=form.memory,
            **form.model_dump(include=_SAME_NAMES),
        )
        spec = with_files(spec, cached_files(spec))
        _check_parameters(spec)
        return spec

    def _location(self, model: str) -> str:
        """A folder as an absolute path (relative ones start at the file), a Hub id as it is."""
        folder = (self._path.parent / Path(model).expanduser()).resolve()
        is_folder = model.startswith((".", "/", "~")) or folder.is_dir()
        return str(folder) if is_folder else model

    def _optional_location(self, model: str | None) -> str | None:
        return None if model is None else self._location(model)

    def _check_names(self, models: tuple[ModelSpec, ...]) -> None:
        taken: dict[str, int] = {}
        for index, spec in enumerate(models):
            for name in (spec.id, *spec.aliases):
                if name in taken:
                    entry = f'models[{index}] "{spec.id}"'
                    self._complain(
                        ("models", index),
                        entry,
                        f'"{name}" is the id or an alias of models[{taken[name]}] already; give one of them an `id`.',
                    )
                taken.setdefault(name, index)

    # Complaints

    def _complain_of(self, error: ValidationError, path: tuple[str | int, ...], entry: str) -> None:
        for found in error.errors(include_url=False):
            keys = tuple(part for part in found["loc"] if isinstance(part, int) or part.isidentifier())
            shown = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
            message = found["msg"].removeprefix("Value error, ")
            if found["type"] == "extra_forbidden":
                message = "unknown key."
            sentence = message if message.endswith(".") else message + "."
            self._complain((*path, *keys), entry, f"{shown}: {sentence}")

    def _complain(self, path: tuple[str | int, ...], entry: str, sentence: str) -> None:
        line = self._document.line(path)
        where = f"{self._path}:{line}" if line is not None else str(self._path)
        self._complaints.append(f"{where}: {entry}: {sentence}" if entry else f"{where}: {sentence}")

    def _raise(self) -> None:
        if self._complaints:
            raise CatalogError("\n".join(self._complaints))


_SAME_NAMES = {
    "auto_class",
    "device",
    "dtype",
    "backend",
    "attn_implementation",
    "threads",
    "replicas",
    "pinned",
    "preload",
    "pooling",
    "normalize",
    "parameters",
    "trust_remote_code",
    "allow_pickle",
    "offline",
}


class _FormError(Exception):
    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


def _merged(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The entry's own keys win; inside `batch`, `queue` and `parameters` key by key."""
    merged = {**defaults, **values}
    for key in ("batch", "queue", "parameters"):
        if isinstance(defaults.get(key), dict) and isinstance(values.get(key), dict):
            merged[key] = {**defaults[key], **values[key]}
    return merged


def _declared_tasks(form: EntryForm) -> tuple[str, ...]:
    names = ([] if form.task is None else [form.task]) + (form.tasks or [])
    tasks = tuple(dict.fromkeys(_task(name).name for name in names))
    heads = {head for task in tasks if (head := head_of(task)) is not None}
    if len(heads) > 1:
        raise _FormError("tasks", f"{', '.join(tasks)}: no one set of weights does all of these.")
    return tasks


def _task(name: str) -> Task:
    try:
        return find_task(name)
    except NotServed as error:
        raise _FormError("task", error.message) from None


def _checked_id(name: str) -> str:
    if any(character.isspace() or not character.isprintable() for character in name):
        raise _FormError("id", f"{name!r} cannot be an id: it holds spaces or characters that cannot be printed.")
    return name


def _check_parameters(spec: ModelSpec) -> None:
    """`parameters:` must be right for the tasks that know them, or a client would be blamed for them."""
    try:
        check_defaults([TASKS[task] for task in spec.all_tasks], spec.parameters)
    except InvalidInput as error:
        raise _FormError("parameters", error.message) from None


# What the model's own files say


def with_files(spec: ModelSpec, find: FindFile) -> ModelSpec:
    """The spec with its tasks, from the files that are on this disk; with `problem` when they say it cannot be."""
    if Path(spec.model).is_absolute() and not Path(spec.model).is_dir():
        return msgspec.structs.replace(spec, problem=f"There is no folder {spec.model}.")
    if find("config.json") is None and not Path(spec.model).is_absolute():
        return msgspec.structs.replace(spec, implied_tasks=implied_tasks(spec.tasks, find))
    try:
        own = infer_task(find) if not spec.tasks else None
    except ModelFilesError as error:
        return msgspec.structs.replace(spec, problem=f"{spec.model}: {error}")
    tasks = spec.tasks if own is None else (own,)
    return msgspec.structs.replace(spec, tasks=tasks, implied_tasks=implied_tasks(tasks, find))


def cached_files(spec: ModelSpec) -> FindFile:
    """Finds a model's files in its folder, or in the Hub's cache; asks nobody."""
    if Path(spec.model).is_absolute():
        return lambda name: path if (path := Path(spec.model, name)).is_file() else None

    def find(name: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(spec.model, name, revision=spec.revision)
        except HFValidationError:
            return None  # not a repository's name: the load will say so
        return Path(found) if isinstance(found, str) else None

    return find
