"""models.yaml -> a frozen `Catalog` of `ModelSpec`s, or the sentences that say what is wrong with it.

Errors of form raise CatalogError. What is wrong with one model's files is that entry's `problem`: it is FAILED from
the start, and the others serve. Nothing here imports torch or transformers, or asks the Hub.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from app.declaration.backends import AUTO, BACKENDS, TORCH, env_of, problem_of, row_of
from app.declaration.exports import problem_of_architecture
from app.declaration.form import (
    DEFAULTS,
    LATER_KEYS,
    LATER_TOP_LEVEL_KEYS,
    EntryForm,
    FileForm,
    Form,
    ModerationForm,
    did_you_mean,
    keys_of,
    sentence_of,
    unknown_key,
)
from app.declaration.inference import (
    CONFIG,
    FindFile,
    ModelFilesError,
    architectures_of,
    check_tasks,
    has_handler,
    heads_of,
    implied_tasks,
    infer_task,
    labels_of,
    read_config,
)
from app.declaration.quantised import method_of, problem_of_checkpoint
from app.declaration.text import YamlDocument, YamlError, read_yaml
from app.errors import CatalogError, InvalidInput, NotServed
from app.fairness import NORMAL, PRIORITIES
from app.media.limits import MediaLimits
from app.tasks.base import Task
from app.tasks.custom import NAME as CUSTOM
from app.tasks.registry import ALIASES, ALL_TASKS, TASKS, find_task
from app.tasks.requests import check_defaults
from app.tasks.text_generation import ADAPTER_ID


class BatchSpec(msgspec.Struct, frozen=True, kw_only=True):
    max_items: int = 64
    max_tokens: int = 16384  # the padded budget: longest item * number of items
    max_wait_ms: float = 0.0


class QueueSpec(msgspec.Struct, frozen=True, kw_only=True):
    max_items: int = 2048  # permits of this model
    deadline_s: float = 300.0
    max_wait_s: float | None = None  # None: each request's own deadline


class ScalingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Of a model on Ray. min_replicas: None: 1, or 0 where it is unloaded after a while."""

    min_replicas: int | None = None
    max_replicas: int = 1


class RaySpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica takes of a Ray cluster. None: what the other keys say."""

    num_cpus: float | None = None
    num_gpus: float | None = None
    resources: dict[str, float] = {}
    upscale_delay_s: float = 10.0


class ModerationSpec(msgspec.Struct, frozen=True, kw_only=True):
    """labels: of the model, each with the categories that it means. thresholds: of every one of these categories."""

    labels: dict[str, tuple[str, ...]]
    thresholds: dict[str, float]


ADAPTER_CONFIG = "adapter_config.json"
PREPROCESSORS = ("tokenizer", "processor", "image_processor", "feature_extractor", "vocoder")
"""Keys of an entry that may name another repository or folder than the model's."""
AdapterKey = tuple[str, int]


class AdapterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A PEFT adapter of a model. serial: tells those apart that had the same id one after the other; 0: declared."""

    id: str
    path: str  # Hub id or absolute folder
    revision: str | None = None
    serial: int = 0
    problem: str | None = None  # why it cannot be used

    @property
    def key(self) -> AdapterKey:
        return self.id, self.serial


class TunedSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What `backend: auto` stands for. keys: of an entry, as `pipeserve tune` chose them, at this time (ISO 8601)."""

    keys: dict[str, Any]
    at: str


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
    vocoder: str | None = None
    auto_class: str | None = None
    device: str | None = None  # None, and no devices: an accelerator where there is one
    devices: tuple[str, ...] = ()  # of all replicas; for a worker: those that its model is spread over
    device_map: str | dict[str, str] | None = None  # how it is spread
    dtype: str = "auto"
    backend: str = "torch"
    quantization: str | None = None  # one of the backend's
    optimization: str | None = None  # one of the backend's
    file_name: str | None = None  # an export in the model's repository or folder
    compile: bool = False
    tuned: TunedSpec | None = None  # where the entry says `backend: auto` and a choice is stored: it is in the spec
    attn_implementation: str | None = None
    threads: int | None = None
    replicas: int = 1  # on this machine
    scaling: ScalingSpec | None = None  # on Ray; None: always so many as on one machine
    ray: RaySpec = RaySpec()
    batch: BatchSpec = BatchSpec()
    queue: QueueSpec = QueueSpec()
    priority: int = NORMAL  # of `app/fairness.py`
    keep_alive_s: float = 300.0  # 0: unload after the answer; -1: never
    pinned: bool = False
    preload: bool = False
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None  # resident memory beyond which a worker is replaced; None: it may grow
    cache_bytes: int | None = None  # of answers that are kept; None: none are
    kv_cache_bytes: int | None = None  # of keys and values; None: as the worker sees fit
    pooling: str | None = None
    normalize: bool | None = None
    parameters: dict[str, Any] = {}
    trust_remote_code: bool = False
    has_handler: bool | None = None  # whether its own handler.py serves it; None: not known before its files are here
    allow_pickle: bool = False
    offline: bool = False
    env: str | None = None  # the environment of its workers; None: the server's own
    adapters: tuple[AdapterSpec, ...] = ()
    adapters_folder: str | None = None  # absolute; adapters below it may be loaded at run time
    adapters_allow: tuple[str, ...] = ()  # patterns of Hub ids that may be
    adapter: AdapterSpec | None = None  # the one of them that a request chose
    media: MediaLimits = MediaLimits()  # the file's `media:`, the same for every entry
    moderation: ModerationSpec | None = None  # its part of the file's `moderations:`
    problem: str | None = None  # why the entry cannot be served: it is FAILED from the start

    @property
    def all_tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.tasks + self.implied_tasks))

    @property
    def name(self) -> str:
        """With the adapter that a request chose."""
        return self.id if self.adapter is None else f"{self.id}:{self.adapter.id}"

    @property
    def takes_adapters(self) -> bool:
        return bool(self.adapters or self.adapters_folder is not None or self.adapters_allow)

    def find_adapter(self, name: str) -> AdapterSpec | None:
        return next((one for one in self.adapters if one.id == name), None)

    def with_adapter(self, name: str) -> ModelSpec:
        """The spec for a request that chose one. Raises NotServed."""
        adapter = self.find_adapter(name)
        if adapter is None:
            known = ", ".join(one.id for one in self.adapters) or "none"
            raise NotServed(f'"{self.id}" has no adapter "{name}"; there is {known}.', param="model")
        return msgspec.structs.replace(self, adapter=adapter)

    def chosen_adapter(self, adapter_id: str | None) -> AdapterSpec | None:
        """What the model's name says, or Text Generation Inference's parameter. Raises NotServed, InvalidInput."""
        if adapter_id is None:
            return self.adapter
        if self.adapter is not None and self.adapter.id != adapter_id:
            name = f"parameters.{ADAPTER_ID}"
            raise InvalidInput(f'{name}: "{self.adapter.id}" and "{adapter_id}" are both asked for.', param=name)
        return self.with_adapter(adapter_id).adapter

    def with_adapters(self) -> list[ModelSpec]:
        """This one, and one for each adapter."""
        return [self, *(self.with_adapter(one.id) for one in self.adapters)]

    @property
    def is_resolved(self) -> bool:
        """Whether it is known what serves it, and which tasks."""
        return bool(self.tasks) and (self.has_handler is not None or not self.trust_remote_code)


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    models: tuple[ModelSpec, ...]
    budget: dict[str, int | float] = {}  # device -> bytes, or a share of the device in 0..1
    max_queue_items: int | None = None
    media: MediaLimits = MediaLimits()
    environments: dict[str, str] = {}  # declared ones: name -> the absolute path of an interpreter
    source: str = ""

    def queue_items(self, default: int) -> int:
        """Permits of all models together."""
        return default if self.max_queue_items is None else self.max_queue_items


def read_catalog(path: Path) -> Catalog:
    """Raises CatalogError: one sentence a line, each naming file, line, entry and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CatalogError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise CatalogError(f"{path}: it cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise CatalogError(f"{path}: it cannot be read: {error}.") from None
    try:
        document = read_yaml(text)
    except YamlError as error:
        where = f"{path}:{error.line}" if error.line is not None else str(path)
        raise CatalogError(f"{where}: {error}") from None
    return _Reader(path, document).read()


def read_entry(values: dict[str, Any], folder: Path) -> ModelSpec:
    """The spec of an entry that stands in no file. folder: where relative ones begin. Raises CatalogError."""
    return _Reader(folder / "command line", YamlDocument({"models": [values]}, {})).read().models[0]


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
            self._complain_of(error, (), "", FileForm)
            self._raise()
            raise
        defaults = self._defaults(form.defaults)
        specs = [self._spec(index, entry, defaults) for index, entry in enumerate(form.models)]
        media = msgspec.convert(form.media.model_dump(), MediaLimits)
        models = tuple(msgspec.structs.replace(spec, media=media) for spec in specs if spec is not None)
        self._check_names(models)
        self._raise()
        models = self._with_moderations(models, form.moderations)
        self._raise()
        return Catalog(
            models=models,
            budget=dict(form.budget),
            max_queue_items=form.queue.max_items if "queue" in value else None,
            media=media,
            environments={
                name: str(self._path.parent.resolve() / Path(one.python).expanduser())
                for name, one in form.environments.items()
            },
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
        all_parameters = {name for task in TASKS.values() for name in task.parameters.model_fields}
        for name in set(known.get("parameters", {})) - all_parameters:
            near = did_you_mean(name, all_parameters)
            self._complain(("defaults", "parameters", name), "defaults", f"parameters.{name}: no task has it{near}.")
        return known

    def _spec(self, index: int, values: dict[str, Any], defaults: dict[str, Any]) -> ModelSpec | None:
        path = ("models", index)
        name = values.get("id") or values.get("model") or values.get("task")
        entry = f"models[{index}] {_quoted(name)}" if isinstance(name, str) else f"models[{index}]"
        unknown = [key for key in values if key not in EntryForm.model_fields]
        for key in unknown:
            self._complain((*path, key), entry, unknown_key(key, EntryForm.model_fields, LATER_KEYS))
        if unknown:
            return None
        try:
            form = EntryForm.model_validate(_merged(defaults, values))
            spec = self._resolved(form, _declared_tasks(form))
            _check_keys_are_of_use(spec, values)
            return spec
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
            model=self._location("model", model),
            aliases=tuple(form.aliases),
            tasks=tasks,
            revision=revision,
            tokenizer=self._optional_location("tokenizer", form.tokenizer),
            processor=self._optional_location("processor", form.processor),
            image_processor=self._optional_location("image_processor", form.image_processor),
            feature_extractor=self._optional_location("feature_extractor", form.feature_extractor),
            vocoder=self._optional_location("vocoder", form.vocoder),
            batch=BatchSpec(**form.batch.model_dump()),
            queue=QueueSpec(
                max_items=form.queue.max_items, deadline_s=form.queue.deadline, max_wait_s=form.queue.max_wait
            ),
            replicas=_replicas(form),
            scaling=_scaling(form),
            ray=RaySpec(
                num_cpus=form.ray.num_cpus,
                num_gpus=form.ray.num_gpus,
                resources=form.ray.resources,
                upscale_delay_s=form.ray.upscale_delay,
            ),
            priority=PRIORITIES[form.priority],
            keep_alive_s=form.keep_alive,
            memory_bytes=form.memory,
            memory_limit_bytes=form.memory_limit,
            cache_bytes=form.cache,
            kv_cache_bytes=form.kv_cache,
            adapters=self._adapters(form),
            adapters_folder=self._optional_location("adapters_folder", form.adapters_folder),
            adapters_allow=tuple(form.adapters_allow),
            devices=_checked_devices(form),
            env=form.env or env_of(form.backend),
            **form.model_dump(include=_SAME_NAMES),
        )
        return with_files(spec, cached_files(spec))

    def _adapters(self, form: EntryForm) -> tuple[AdapterSpec, ...]:
        adapters: dict[str, AdapterSpec] = {}
        for one in form.adapters:
            path = self._location("adapters", one.path)
            is_folder = Path(path).is_absolute()
            name = _checked_id(one.id or (Path(path).name if is_folder else path), key="adapters")
            if name in adapters:
                raise _FormError("adapters", f"adapters: {_quoted(name)} is there twice; give one of them an `id`.")
            if is_folder and one.revision is not None:
                raise _FormError("adapters", "adapters: revision: a folder has none; it is for adapters of the Hub.")
            problem = _problem_of_adapter(Path(path)) if is_folder else None
            adapters[name] = AdapterSpec(id=name, path=path, revision=one.revision, problem=problem)
        return tuple(adapters.values())

    def _location(self, key: str, model: str) -> str:
        """A folder as an absolute path (relative ones start at the file), a Hub id as it is."""
        try:
            folder = (self._path.parent / Path(model).expanduser()).resolve()
            is_folder = model.startswith((".", "/", "~")) or folder.is_dir()
        except (OSError, RuntimeError) as error:  # a name too long, a user or a link that leads nowhere
            raise _FormError(key, f"{key}: {_quoted(model)} cannot be looked for: {str(error).rstrip('.')}.") from None
        return str(folder) if is_folder else model

    def _optional_location(self, key: str, model: str | None) -> str | None:
        return None if model is None else self._location(key, model)

    def _check_names(self, models: tuple[ModelSpec, ...]) -> None:
        taken: dict[str, int] = {}
        for index, spec in enumerate(models):
            adapters = [name for one in spec.adapters for name in (one.id, f"{spec.id}:{one.id}")]
            for name in (spec.id, *spec.aliases, *adapters):
                if name in taken:
                    entry = f'models[{index}] "{spec.id}"'
                    self._complain(
                        ("models", index),
                        entry,
                        f'"{name}" is the id or an alias of models[{taken[name]}] already, or of an adapter of it; give'
                        " one of them an `id`.",
                    )
                taken.setdefault(name, index)

    def _with_moderations(
        self, models: tuple[ModelSpec, ...], forms: Mapping[str, ModerationForm]
    ) -> tuple[ModelSpec, ...]:
        found = {spec.id: spec for spec in models}
        ids = {name: spec.id for spec in models for name in (spec.id, *spec.aliases)}
        for name, form in forms.items():
            try:
                if name not in ids:
                    raise _FormError("labels", f"there is no such entry{did_you_mean(name, ids)}.")
                spec = msgspec.structs.replace(found[ids[name]], moderation=_moderation(form))
                if found[spec.id].moderation is not None:
                    raise _FormError("labels", f'it is "{spec.id}", which stands there already.')
                _check_moderation(spec)
                found[spec.id] = spec
            except _FormError as error:
                self._complain(("moderations", name, error.key), f"moderations {_quoted(name)}", str(error))
        return tuple(found.values())

    # Complaints

    def _complain_of(
        self,
        error: ValidationError,
        path: tuple[str | int, ...],
        entry: str,
        form: type[Form] = EntryForm,
    ) -> None:
        for found in error.errors(include_url=False):
            keys = tuple(part for part in found["loc"] if part != "[key]")
            shown = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
            sentence = sentence_of(found)
            if found["type"] == "extra_forbidden":
                sentence = unknown_key(str(keys[-1]), keys_of(keys, form))
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
    "device_map",
    "dtype",
    "backend",
    "quantization",
    "optimization",
    "file_name",
    "attn_implementation",
    "compile",
    "threads",
    "pinned",
    "preload",
    "pooling",
    "normalize",
    "parameters",
    "trust_remote_code",
    "allow_pickle",
    "offline",
}


_MODERATING = "text-classification"
_PLACE_KEYS = ("device", "devices", "device_map")

HEADS = frozenset(head for task in TASKS for head in heads_of(task))


class _FormError(Exception):
    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


def _merged(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The entry's own keys win; inside `batch`, `queue`, `parameters` and `ray` key by key. An entry that says where it
    goes heeds no default about it."""
    if any(key in values for key in _PLACE_KEYS):
        defaults = {key: value for key, value in defaults.items() if key not in _PLACE_KEYS}
    merged = {**defaults, **values}
    for key in ("batch", "queue", "parameters", "ray"):
        if isinstance(defaults.get(key), dict) and isinstance(values.get(key), dict):
            merged[key] = {**defaults[key], **values[key]}
    return merged


def _declared_tasks(form: EntryForm) -> tuple[str, ...]:
    names = ([] if form.task is None else [form.task]) + (form.tasks or [])
    tasks = tuple(dict.fromkeys(_task(name).name for name in names))
    heads = {task: heads_of(task) for task in tasks if heads_of(task)}
    if heads and not frozenset.intersection(*heads.values()):
        raise _FormError("tasks", f"tasks: {', '.join(tasks)}: no one set of weights does all of these.")
    for task, needed in heads.items():
        if form.auto_class in HEADS and form.auto_class not in needed:
            raise _FormError(
                "auto_class",
                f"auto_class: {form.auto_class} cannot do {task}, which needs {' or '.join(sorted(needed))}.",
            )
    return tasks


def _replicas(form: EntryForm) -> int:
    return form.replicas if isinstance(form.replicas, int) else max(1, form.replicas.min or 1)


def _scaling(form: EntryForm) -> ScalingSpec | None:
    if isinstance(form.replicas, int):
        return None
    return ScalingSpec(min_replicas=form.replicas.min, max_replicas=form.replicas.max)


def _checked_devices(form: EntryForm) -> tuple[str, ...]:
    """`devices`, if they, `device`, `device_map` and `replicas` agree."""
    devices = tuple(form.devices or ())
    replicas = _replicas(form)
    spread = dict.fromkeys(form.device_map.values()) if isinstance(form.device_map, dict) else devices
    key = "device_map" if isinstance(form.device_map, dict) else "devices"
    other = "devices" if devices else "device_map"
    if form.device is not None and (devices or form.device_map is not None):
        raise _FormError("device", f"device: {form.device} is for a model on one device; leave it out beside {other}.")
    if isinstance(form.device_map, dict) and devices:
        raise _FormError("devices", "devices: device_map names the devices of its modules already.")
    if len(set(devices)) < len(devices):
        raise _FormError("devices", "devices: it names a device twice.")
    if len({device.partition(":")[0] for device in spread}) > 1:
        named = ", ".join(spread)
        raise _FormError(key, f"{key}: {named}: a model is spread over devices of one kind.")
    if form.device_map is not None and replicas > 1 and not spread:
        raise _FormError("device_map", "device_map: with replicas, say which `devices` they share.")
    is_spread = form.device_map is not None or len(devices) > replicas
    if is_spread and any((form.adapters, form.adapters_folder, form.adapters_allow)):
        key = "device_map" if form.device_map is not None else "devices"
        raise _FormError(key, f"{key}: a model that is spread over several devices takes no adapters.")
    if devices and len(devices) % replicas and replicas % len(devices):
        raise _FormError("devices", f"devices: {len(devices)} devices cannot be shared by {replicas} replicas.")
    return devices


def _task(name: str) -> Task:
    try:
        return find_task(name)
    except NotServed:
        served = ", ".join(TASKS)
    near = did_you_mean(name, [*TASKS, *ALIASES])
    raise _FormError("task", f"task: there is no task {_quoted(name)}{near}; this version serves {served}.")


def _checked_id(name: str, *, key: str = "id") -> str:
    """The model's name may hold spaces (a folder), an id may not."""
    if any(character.isspace() for character in name):
        raise _FormError(key, f"{key}: {_quoted(name)} cannot be an id, it holds spaces; give the entry an `id`.")
    return name


def _problem_of_adapter(folder: Path) -> str | None:
    if (problem := _problem_of_folder(folder)) is not None:
        return problem[0].lower() + problem[1:]
    if not (folder / ADAPTER_CONFIG).is_file():
        return f"{folder} holds no {ADAPTER_CONFIG}, so it is no adapter of PEFT's."
    return None


_NOT_FOR_HANDLERS = {
    "parameters": "takes whole bodies",
    "batch": "takes whole bodies",
    "quantization": "loads its weights itself",
    "compile": "computes itself",
    "devices": "chooses its devices itself",
    "device_map": "chooses its devices itself",
    "adapters": "takes whole bodies",
    "adapters_folder": "takes whole bodies",
    "adapters_allow": "takes whole bodies",
}


def _check_keys_are_of_use(spec: ModelSpec, values: dict[str, Any]) -> None:
    """What an entry itself says must mean something for it; `defaults` may say more than an entry needs."""
    if spec.has_handler:
        for key, why in _NOT_FOR_HANDLERS.items():
            if key in values:
                raise _FormError(key, f"{key}: this entry is served by its handler.py, which {why}.")
    for key in row_of(spec.backend).refuses:
        if key in values and not spec.has_handler:
            raise _FormError(key, f"{key}: it means nothing to backend {spec.backend}.")
    _check_backend(spec)
    _check_parameters(spec, values.get("parameters", {}))
    if "revision" in values and Path(spec.model).is_absolute():
        raise _FormError("revision", "revision: a folder has none; it is for models of the Hub.")
    embeds = "feature-extraction" in spec.all_tasks or "sentence-similarity" in spec.all_tasks or not spec.tasks
    if "cache" in values and spec.tasks and not any(ALL_TASKS[task].is_repeatable for task in spec.all_tasks):
        named = ", ".join(spec.tasks)
        raise _FormError("cache", f"cache: equal requests may have different answers here (this entry is for {named}).")
    for key in ("pooling", "normalize"):
        if key in values and not embeds:
            raise _FormError(key, f"{key}: it is for embeddings, and this entry is for {', '.join(spec.tasks)}.")


def _check_backend(spec: ModelSpec) -> None:
    if spec.has_handler:
        return
    found = problem_of(
        spec.backend,
        tasks=spec.tasks,
        quantization=spec.quantization,
        optimization=spec.optimization,
        dtype=spec.dtype,
        device=spec.device,
    )
    if found is not None:
        raise _FormError(*found)
    if spec.compile:
        _check_compiled(spec)
    if spec.takes_adapters and spec.quantization not in (None, *row_of(spec.backend).adapted_quantizations):
        raise _FormError("quantization", f"quantization: {spec.quantization}: such a model takes no adapters.")


def _check_compiled(spec: ModelSpec) -> None:
    """What `auto` chooses is measured without it."""
    compiled_tasks = frozenset() if spec.backend == AUTO else BACKENDS[spec.backend].compiled_tasks
    if not compiled_tasks:
        compiling = " and ".join(name for name, backend in BACKENDS.items() if backend.compiled_tasks)
        raise _FormError("compile", f"compile: it is for backend: {compiling}, not for {spec.backend}.")
    for task in spec.tasks:
        if task not in compiled_tasks:
            known = ", ".join(sorted(compiled_tasks))
            raise _FormError("compile", f"compile: {spec.backend} does not compile {task}; it compiles {known}.")
    if spec.quantization is not None:
        raise _FormError("compile", "compile: a model with `quantization` is not compiled; leave out one of them.")
    if spec.takes_adapters:
        raise _FormError("compile", "compile: a model that takes adapters is not compiled.")
    if spec.backend == TORCH.name and (spec.device_map is not None or len(spec.devices) > spec.replicas):
        raise _FormError("compile", "compile: a model that is spread over several devices is not compiled.")


def _check_parameters(spec: ModelSpec, own: Iterable[str]) -> None:
    """What `defaults` gives matters only where a task knows it; what the entry itself says must be known."""
    if spec.has_handler:
        return
    known = {name for task in spec.all_tasks for name in TASKS[task].parameters.model_fields}
    meant = {name: value for name, value in spec.parameters.items() if name in known or name in own}
    try:
        check_defaults([TASKS[task] for task in spec.all_tasks], meant)
    except InvalidInput as error:
        raise _FormError("parameters", error.message) from None


def _moderation(form: ModerationForm) -> ModerationSpec:
    meant = {category for categories in form.labels.values() for category in categories}
    for category in form.thresholds:
        if category not in meant:
            raise _FormError("thresholds", f"thresholds: no label means {category}.")
    return ModerationSpec(
        labels={label: tuple(categories) for label, categories in form.labels.items()},
        thresholds={category: form.thresholds.get(category, form.threshold) for category in meant},
    )


def _check_moderation(spec: ModelSpec) -> None:
    """As far as it can be known before the model's files are here."""
    if spec.moderation is None or spec.problem is not None or not spec.tasks:
        return
    if spec.has_handler or _MODERATING not in spec.all_tasks:
        raise _FormError("labels", f"this entry is for {', '.join(spec.tasks)}, not {_MODERATING}.")
    if spec.parameters.get("function_to_apply") == "none":
        raise _FormError("labels", "this entry's `function_to_apply: none` makes scores that are no shares of 1.")
    known = labels_of(cached_files(spec))
    for label in spec.moderation.labels:
        if known and label not in known:
            shown = ", ".join(sorted(known)[:20])
            raise _FormError("labels", f"labels: the model has no label {_quoted(label)}; it has {shown}.")


def _quoted(text: str) -> str:
    return f'"{text}"' if text.isprintable() and len(text) <= 200 else repr(text[:200])


# What the model's own files say


def with_files(spec: ModelSpec, find: FindFile) -> ModelSpec:
    """The spec with its tasks, from the files that are on this disk; with `problem` when they say it cannot be."""
    preprocessors = (spec.tokenizer, spec.processor, spec.image_processor, spec.feature_extractor, spec.vocoder)
    for place in (spec.model, *preprocessors):
        if place is not None and Path(place).is_absolute() and (problem := _problem_of_folder(place)) is not None:
            return msgspec.structs.replace(spec, problem=problem)
    try:
        tasks = tuple(task for task in spec.tasks if task != CUSTOM)
        if has_handler(find, declares_task=bool(tasks), trust_remote_code=spec.trust_remote_code):
            return _with_handler(spec, tasks)
        if Path(spec.model).is_absolute():
            spec = msgspec.structs.replace(spec, has_handler=False)
        if Path(spec.model).is_absolute() or find(CONFIG) is not None:
            check_tasks(tasks, find)
            tasks = tasks or (infer_task(find),)
            _check_quantised(spec, find)
            _check_exported(spec, tasks, find)
        return msgspec.structs.replace(spec, tasks=tasks, implied_tasks=implied_tasks(tasks, find))
    except ModelFilesError as error:
        return msgspec.structs.replace(spec, problem=f"{spec.model}: {error}")


def _problem_of_folder(place: str | Path) -> str | None:
    try:
        os.scandir(place).close()
    except (FileNotFoundError, NotADirectoryError):
        return f"There is no folder {place}."
    except OSError as error:
        return f"The folder {place} cannot be read: {error.strerror}. It must be readable by the server's user."
    return None


def _check_quantised(spec: ModelSpec, find: FindFile) -> None:
    """Of a checkpoint that is quantised, as far as this environment is the one that loads it."""
    if spec.backend != "torch" or spec.env is not None:
        return
    method = method_of(read_config(find))
    if method is None:
        return
    if spec.quantization is not None:
        raise ModelFilesError(f"this checkpoint is quantised already, with {method}; leave out `quantization`.")
    problem = problem_of_checkpoint(method, is_accelerated=False if spec.device == "cpu" else None)
    if problem is not None:
        raise ModelFilesError(problem)


def _check_exported(spec: ModelSpec, tasks: tuple[str, ...], find: FindFile) -> None:
    if not row_of(spec.backend).computes_exports:
        return
    problem = problem_of_architecture(spec.backend, tasks, architectures_of(read_config(find)))
    if problem is not None:
        raise ModelFilesError(problem)


def _with_handler(spec: ModelSpec, tasks: tuple[str, ...]) -> ModelSpec:
    """A handler gets one request at a time; what it answers beside its declared tasks is not known."""
    return msgspec.structs.replace(
        spec, tasks=tasks or (CUSTOM,), implied_tasks=(), has_handler=True, batch=BatchSpec(max_items=1)
    )


def with_right_keys(spec: ModelSpec) -> ModelSpec:
    """The spec, with `problem` when what it declares is wrong for what its files told only now."""
    try:
        _check_backend(spec)
        _check_parameters(spec, ())
        _check_moderation(spec)
    except _FormError as error:
        return msgspec.structs.replace(spec, problem=f"{spec.id}: {error}")
    return spec


def cached_files(spec: ModelSpec) -> FindFile:
    """Finds a model's files in its folder, or in the Hub's cache; asks nobody."""
    if Path(spec.model).is_absolute():
        return lambda name: path if os.path.isfile(path := Path(spec.model, name)) else None
    is_absent = False  # the repository: most of very many are, and each is asked for several files

    def find(name: str) -> Path | None:
        nonlocal is_absent
        if is_absent:
            return None
        from huggingface_hub import constants, try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.file_download import repo_folder_name

        try:
            found = try_to_load_from_cache(spec.model, name, revision=spec.revision)
        except HFValidationError:
            raise ModelFilesError("this is neither a folder nor the id of a repository on the Hub.") from None
        if isinstance(found, str):
            return Path(found)
        folder = repo_folder_name(repo_id=spec.model, repo_type="model")
        is_absent = not os.path.isdir(Path(constants.HF_HUB_CACHE, folder))
        return None

    return find
