"""The form of models.yaml: which keys there are and what they hold; docs/models-yaml.md is made from it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import ErrorDetails

from app.declaration.backends import AUTO, BACKENDS
from app.durations import (
    DURATION_PATTERN,
    SIZE_OR_SHARE_PATTERN,
    SIZE_PATTERN,
    parse_duration,
    parse_size,
    parse_size_or_share,
)
from app.fairness import PriorityName
from app.tasks.architectures import AUTO_CLASSES

MAX_REPLICAS = 64
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")

_ENVIRONMENT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?|xpu(:\d{1,3})?", re.ASCII)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be printed.")
    return text


def _name(text: str) -> str:
    """An id or alias: it stands in URLs, headers and logs."""
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(f"{text!r} holds spaces or characters that cannot be printed.")
    return text


def environment_name(text: str) -> str:
    """Raises ValueError: it names a folder."""
    if _ENVIRONMENT_NAME.fullmatch(text) is None:
        raise ValueError(f'{text[:80]!r} cannot name an environment; use a-z, 0-9, "-", "_" and ".".')
    return text


def _device(value: Any) -> Any:
    """As torch writes it: 0 and cuda are cuda:0."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"cuda:{value}"
    if not isinstance(value, str):
        return value
    if _DEVICE.fullmatch(value) is None:
        raise ValueError(f'there is no device "{value[:40]}"; write cpu, cuda, cuda:0, mps or xpu.')
    return f"{value}:0" if value in ("cuda", "xpu") else value


def _device_map(value: Any) -> Any:
    if isinstance(value, str) and value in DEVICE_MAPS:
        return value
    if not isinstance(value, dict) or not value:
        kinds = ", ".join(DEVICE_MAPS)
        raise ValueError(f"it must be {kinds}, or a mapping of modules to devices, not {_shown(value)}.")
    placed = {module: _device(device) for module, device in value.items()}
    for device in placed.values():
        if not isinstance(device, str):
            raise ValueError(f"it must map names of modules to devices, not to {_shown(device)}.")
    return placed


def _auto_class(text: str) -> str:
    if text not in AUTO_CLASSES:
        raise ValueError(f'transformers has no "{text[:80]}"{did_you_mean(text, AUTO_CLASSES)}.')
    return text


def _backend(value: Any) -> Any:
    known = (*BACKENDS, AUTO)
    if isinstance(value, str) and value not in known:
        near = did_you_mean(value, known)
        raise ValueError(f'"{value[:80]}" is no backend{near}; there is {", ".join(known)}.')
    return value


def _replicas(value: Any) -> Any:
    """A number or a range, told apart here: what is wrong is said of what was meant."""
    if isinstance(value, dict | ReplicasForm):
        return ReplicasForm.model_validate(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_REPLICAS:
        known = f"a whole number from 1 to {MAX_REPLICAS}, or a range such as {{min: 1, max: 8}}"
        raise ValueError(f"it must be {known}, not {_shown(value)}.")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """` (did you mean "..."?)`, or nothing where no word is near."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


# `json_schema_input_type`: what editors are told (app/declaration/schema.py) of values that a validator makes others.
Duration = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=float | Annotated[str, Field(pattern=DURATION_PATTERN)]),
]
Size = Annotated[
    int, BeforeValidator(parse_size, json_schema_input_type=int | Annotated[str, Field(pattern=SIZE_PATTERN)])
]
SizeOrShare = Annotated[
    int | float,
    BeforeValidator(
        parse_size_or_share, json_schema_input_type=int | Annotated[str, Field(pattern=SIZE_OR_SHARE_PATTERN)]
    ),
]
Count = Annotated[int, Field(ge=1, le=2**40)]
Text = Annotated[str, AfterValidator(_printable), StringConstraints(min_length=1, max_length=4096)]
Name = Annotated[str, AfterValidator(_name), StringConstraints(min_length=1, max_length=512)]
_DeviceInput = int | Annotated[str, Field(pattern=rf"^({_DEVICE.pattern})$")]
Device = Annotated[str, BeforeValidator(_device, json_schema_input_type=_DeviceInput)]
EnvironmentName = Annotated[str, AfterValidator(environment_name)]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class BatchForm(Form):
    max_items: int = Field(default=64, ge=1, le=4096, description="items of one forward at most")
    max_tokens: Count = Field(
        default=16384,
        description="its size at most: longest item × items, or the sum of the items where nothing is padded",
    )
    max_wait_ms: float = Field(default=0.0, ge=0, le=1000, description="how long an item waits for company")


class QueueForm(Form):
    max_items: Count = Field(default=2048, description="items admitted at a time; more get 429")
    deadline: Duration = Field(default=300.0, gt=0, description="longest time of a request, its waiting included")
    max_wait: Duration | None = Field(
        default=None,
        gt=0,
        description="a request that would wait longer before it is begun, by what those before it waited, gets 429 at"
        " once; unset: longer than until its deadline (docs/overload.md)",
    )


class ReplicasForm(Form):
    min: int | None = Field(
        default=None,
        ge=0,
        le=MAX_REPLICAS,
        description="on one machine, the number of workers (1 for 0); on Ray, so many replicas always run. Unset: 1,"
        " but on Ray 0 for an entry that is unloaded (`keep_alive`) and not `pinned`",
    )
    max: int = Field(
        ge=1, le=MAX_REPLICAS, description="on Ray, up to so many replicas run while there is work for them"
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> ReplicasForm:
        if self.min is not None and self.min > self.max:
            raise ValueError(f"min is {self.min}, and max is {self.max}.")
        return self


class RayForm(Form):
    num_cpus: float | None = Field(
        default=None, ge=0, le=4096, description="CPUs that Ray sets aside for a replica; unset: `threads`, else 1"
    )
    num_gpus: float | None = Field(
        default=None,
        ge=0,
        le=64,
        description="GPUs, or a share of one such as 0.5, which is then its share of that GPU's memory too; unset: as"
        " many as `device` or `devices` name",
    )
    resources: dict[Text, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="of nodes that you gave names to, such as `{big-memory: 1}`"
    )
    upscale_delay: Duration = Field(
        default=10.0, ge=0, description="so long there must be too much work before replicas are added"
    )


class AdapterForm(Form):
    path: Text = Field(description="its folder (relative to this file), or a Hub id")
    id: Name | None = Field(default=None, description="unset: the folder's name, or the Hub id")
    revision: Text | None = Field(default=None, description="branch, tag or commit of the Hub repository")


def _adapters(value: Any) -> Any:
    """A mapping of names, or a list, as a list of mappings."""
    if isinstance(value, dict):
        return [
            {"id": name, **one} if isinstance(one, dict) and "id" not in one else {"id": name, "path": one}
            for name, one in value.items()
        ]
    if isinstance(value, list):
        return [{"path": one} if isinstance(one, str) else one for one in value]
    raise ValueError("it must be a mapping of names to folders or Hub ids, or a list of these.")


class EntryForm(Form):
    """One entry of `models:`; the keys that `defaults:` may hold as well are those of `DEFAULTS`."""

    id: Name | None = Field(default=None, description="the model's name in URLs and requests; unset: `model`")
    model: Text | None = Field(
        default=None, description="a Hub id, or a folder (relative to this file); unset: the task's own"
    )
    task: Text | None = Field(default=None, description="what it is for; unset: read from the model's files")
    tasks: list[Text] | None = Field(default=None, min_length=1, description="several tasks on one copy of the weights")
    aliases: list[Name] = Field(default=[], description="other names")
    revision: Text | None = Field(default=None, description="branch, tag or commit of the Hub repository")
    tokenizer: Text | None = Field(default=None, description="Hub id or folder, if not the model's own")
    processor: Text | None = Field(default=None, description="the same for a processor")
    image_processor: Text | None = Field(default=None, description="the same for an image processor")
    feature_extractor: Text | None = Field(default=None, description="the same for a feature extractor")
    vocoder: Text | None = Field(
        default=None,
        description="what makes sound of a text-to-audio model's spectrograms, such as `microsoft/speecht5_hifigan`;"
        " unset: the folder `vocoder` among the model's files",
    )
    auto_class: (
        Annotated[str, AfterValidator(_auto_class), Field(json_schema_extra={"enum": [*AUTO_CLASSES]})] | None
    ) = Field(default=None, description="the transformers class that loads it; unset: the task's")
    device: Device | None = Field(default=None, description="unset: an accelerator where there is one")
    devices: list[Device] | None = Field(
        default=None,
        min_length=1,
        description="such as `[0, 1]`: the accelerators that one model is spread over; with `replicas`, each has its"
        " share of them",
    )
    device_map: (
        Annotated[
            str | dict[str, str],
            BeforeValidator(
                _device_map,
                json_schema_input_type=Annotated[str, Field(json_schema_extra={"enum": [*DEVICE_MAPS]})]
                | dict[str, _DeviceInput],
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="how a model is spread over `devices`, or over all accelerators: `auto` (the same as `balanced`),"
        " `balanced_low_0`, `sequential`; or its modules' devices, such as `{model.layers.0: 0, ...}`. Unset: `auto`",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="auto: as the checkpoint says; float32 on a CPU that does not compute in its type"
    )
    backend: Annotated[str, BeforeValidator(_backend), Field(json_schema_extra={"enum": [*BACKENDS, AUTO]})] = Field(
        default="torch",
        description="what computes: "
        + "; ".join(f"`{one.name}`, {one.what}" for one in BACKENDS.values())
        + f"; `{AUTO}`, what `pipeserve tune` found best for it on this machine, torch until it has",
    )
    quantization: Text | None = Field(
        default=None,
        description="weights in fewer bits: "
        + (
            "; ".join(
                f"`{name}` ({one.name}), {what}"
                for one in BACKENDS.values()
                for name, what in one.quantizations.items()
            )
            or "none yet"
        ),
    )
    optimization: Literal["O1", "O2", "O3", "O4"] | None = Field(
        default=None,
        description="of an exported network: "
        + "; ".join(
            f"`{name}` ({one.name}), {what}" for one in BACKENDS.values() for name, what in one.optimizations.items()
        )
        + "; `O4`, in float16 on a GPU, is for no backend of this version",
    )
    file_name: Text | None = Field(
        default=None,
        description="an export in the model's repository or folder that the backend is to run, such as"
        " `onnx/model_quantized.onnx`; unset: `onnx/model.onnx` or `openvino/openvino_model.xml` where it is there,"
        " else one is made at the first load and kept",
    )
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] | None = Field(
        default=None, description="unset: transformers' choice"
    )
    compile: bool = Field(
        default=False,
        description="compile the model's forward with torch.compile as it is loaded, for every size of input at once;"
        " see [torch](backends.md#torch); `vllm`: as vLLM does (on a GPU it always does)",
    )
    threads: int | None = Field(
        default=None, ge=1, le=4096, description="compute threads; unset: a fair share of cores − 1"
    )
    replicas: Annotated[Annotated[int, Field(ge=1, le=MAX_REPLICAS)] | ReplicasForm, BeforeValidator(_replicas)] = (
        Field(
            default=1,
            description="worker processes of this model; or `{min, max}`, between which Ray scales; see below",
        )
    )
    ray: RayForm = Field(
        default=RayForm(), description="what a replica takes of a Ray cluster ([ray.md](ray.md)); see below"
    )
    batch: BatchForm = Field(default=BatchForm(), description="see below")
    queue: QueueForm = Field(default=QueueForm(), description="see below")
    priority: PriorityName = Field(
        default="normal",
        description="its share of the server's queue when that is full: `high` eight times that of `normal`, `low` an"
        " eighth (docs/overload.md)",
    )
    keep_alive: Duration = Field(default=300.0, description="unload so long after the last use; 0 at once, -1 never")
    pinned: bool = Field(default=False, description="never evicted, never unloaded for idleness")
    preload: bool = Field(default=False, description="load at the start instead of at the first request")
    cache: Size | None = Field(
        default=None,
        description="memory for answers: a request equal to an earlier one gets its answer again, and equal ones that"
        " are here at the same time are computed once; for tasks that draw nothing at random. Unset: none are kept",
    )
    memory: Size | None = Field(default=None, description="an estimate of its need, when known")
    memory_limit: Size | None = Field(
        default=None,
        description="resident memory of one worker process (as `ps` shows it, libraries included) beyond which it is"
        " replaced, once it has answered what it has: for models that leak. Unset: it may grow",
    )
    kv_cache: Size | None = Field(
        default=None,
        description="memory for keys and values of texts that are generated; unset: the smaller of a quarter of what is"
        " free and eight full contexts",
    )
    pooling: Literal["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"] | None = Field(
        default=None, description="for embeddings of models without sentence-transformers files"
    )
    normalize: bool | None = Field(default=None, description="scale those embeddings to length 1")
    parameters: dict[str, Any] = Field(default={}, description="parameters of requests that do not send them")
    adapters: Annotated[
        list[AdapterForm],
        BeforeValidator(_adapters, json_schema_input_type=dict[str, str | AdapterForm] | list[str | AdapterForm]),
    ] = Field(
        default=[],
        description="PEFT adapters on this model: a mapping of names to folders or Hub ids, or a list; see below",
    )
    adapters_folder: Text | None = Field(
        default=None,
        description="`/v1/load_lora_adapter` may load adapters from below this folder (relative to this file)",
    )
    adapters_allow: list[Text] = Field(
        default=[], description="it may load these Hub repositories, such as `our-team/*`"
    )
    trust_remote_code: bool = Field(
        default=False, description="run Python code of the model's repository, as the server's user"
    )
    allow_pickle: bool = Field(
        default=False,
        description="load weights from pickles where there are no safetensors: tensors and plain values, nothing else",
    )
    offline: bool = Field(
        default=False,
        description="never ask the Hub for this model, and bar its workers from the network"
        " ([what a worker may do](security-workers.md))",
    )
    env: EnvironmentName | None = Field(
        default=None, description="the Python environment of its workers (docs/environments.md); unset: the backend's"
    )


NO_DEFAULTS = ("id", "model", "task", "tasks", "aliases", "revision", "tokenizer", "file_name", "adapters")
DEFAULTS = tuple(name for name in EntryForm.model_fields if name not in NO_DEFAULTS)


class EnvironmentForm(Form):
    python: Text = Field(description="its interpreter, 3.11 or newer (relative to this file)")


class TotalQueueForm(Form):
    max_items: Count = Field(default=8192, description="items admitted at a time, all models together")


class MediaForm(Form):
    allow_urls: bool = Field(
        default=False, description="whether a URL may stand for a file (http and https, public addresses only)"
    )
    allow_hosts: list[Text] = Field(
        default=[], description="hosts that files may come from, such as `*.example.org`; empty: any public one"
    )
    max_bytes: Size = Field(default=32 * 2**20, description="of one file")
    max_pixels: Count = Field(default=50_000_000, description="of one image or frame, before it is decoded")
    max_seconds: float = Field(default=3600.0, gt=0, description="of one sound or video")
    max_frames: Count = Field(default=1024, description="of one video that are decoded")


Category = Literal[
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
]
"""What OpenAI's moderations tell apart."""
Share = Annotated[float, Field(ge=0, le=1)]


class ModerationForm(Form):
    labels: dict[
        Text,
        Annotated[
            list[Category],
            BeforeValidator(_listed, json_schema_input_type=Category | list[Category]),
            Field(min_length=1),
        ],
    ] = Field(
        min_length=1, description="the model's labels: each with OpenAI's category that it means, or a list of these"
    )
    threshold: Share = Field(default=0.5, description="the score from which a category is flagged")
    thresholds: dict[Category, Share] = Field(default={}, description="of single categories, where they differ")


class FileForm(Form):
    models: list[dict[str, Any]] = Field(min_length=1, description="the entries")
    defaults: dict[str, Any] = Field(default={}, description="keys for all entries that do not say otherwise")
    budget: dict[Device, SizeOrShare] = Field(
        default={},
        description='memory for models per device, such as `{cpu: 8GiB, "cuda:0": 80%}`; unset: what is free',
    )
    queue: TotalQueueForm = Field(default=TotalQueueForm(), description="see below")
    media: MediaForm = Field(default=MediaForm(), description="see below")
    environments: dict[EnvironmentName, EnvironmentForm] = Field(
        default={}, description="Python environments that you made yourself, by the names that `env` uses; see below"
    )
    moderations: dict[Name, ModerationForm] = Field(
        default={}, description="entries for text-classification that `/v1/moderations` asks, by id or alias; see below"
    )


FORMS_INSIDE: dict[type[Form], dict[str, type[Form]]] = {
    EntryForm: {
        "batch": BatchForm,
        "queue": QueueForm,
        "adapters": AdapterForm,
        "replicas": ReplicasForm,
        "ray": RayForm,
    },
    FileForm: {
        "queue": TotalQueueForm,
        "media": MediaForm,
        "moderations": ModerationForm,
        "environments": EnvironmentForm,
    },
}

LATER_KEYS = frozenset({"chat_template", "drain"})
LATER_TOP_LEVEL_KEYS = frozenset({"catalog"})


def unknown_key(key: str, allowed: Iterable[str], later: Iterable[str] = ()) -> str:
    """Why a key may not stand where it does."""
    if key in later:
        return f'"{key}" is not supported by this version.'
    return f'unknown key "{key}"{did_you_mean(key, allowed)}.'


_KINDS = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "list_type": "a list",
    "dict_type": "a mapping (`key: value`)",
    "model_type": "a mapping (`key: value`)",
}


def sentence_of(found: ErrorDetails) -> str:
    """What pydantic found, in the words of the file."""
    kind, given = found["type"], found.get("input")
    if kind == "value_error":
        return found["msg"].removeprefix("Value error, ")
    if kind in _KINDS:
        return f"it must be {_KINDS[kind]}, not {_shown(given)}."
    if kind in ("string_too_short", "too_short"):
        return "it must not be empty."
    message = found["msg"].replace("Input should be", "it must be").replace("String should have", "it must have")
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", found["msg"])
        return f"{message}, not {_shown(given)}{did_you_mean(given, choices) if isinstance(given, str) else ''}."
    return message if message.endswith(".") else message + "."


def keys_of(path: tuple[str | int, ...], form: type[Form]) -> list[str]:
    """The keys that may stand beside the one that `path` names. form: where the path begins."""
    for key in path[:-1]:
        form = FORMS_INSIDE.get(form, {}).get(str(key), form)
    return list(form.model_fields)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "empty"}[value]
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:60] + "..."
