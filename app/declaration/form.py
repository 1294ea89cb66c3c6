"""The form of models.yaml: which keys there are and what they hold; docs/models-yaml.md is made from it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from app.durations import parse_duration, parse_size, parse_size_or_share

Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
SizeOrShare = Annotated[int | float, BeforeValidator(parse_size_or_share)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^\S+$")]
Device = Annotated[str, StringConstraints(pattern=r"^(cpu|mps|cuda(:\d+)?|xpu(:\d+)?)$")]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class BatchForm(Form):
    max_items: int = Field(default=64, ge=1, le=4096, description="items of one forward at most")
    max_tokens: int = Field(default=16384, ge=1, description="its padded size at most: longest item × items")
    max_wait_ms: float = Field(default=0.0, ge=0, le=1000, description="how long an item waits for company")


class QueueForm(Form):
    max_items: int = Field(default=2048, ge=1, description="items admitted at a time; more get 429")
    deadline: Duration = Field(default=300.0, gt=0, description="longest time of a request, its waiting included")


class EntryForm(Form):
    """One entry of `models:`; the keys that `defaults:` may hold as well are those of `DEFAULTS`."""

    id: Name | None = Field(default=None, description="the model's name in URLs and requests; unset: `model`")
    model: str | None = Field(
        default=None, min_length=1, description="a Hub id, or a folder (relative to this file); unset: the task's own"
    )
    task: str | None = Field(default=None, description="what it is for; unset: read from the model's files")
    tasks: list[str] | None = Field(default=None, min_length=1, description="several tasks on one copy of the weights")
    aliases: list[Name] = Field(default=[], description="other names")
    revision: str | None = Field(default=None, description="branch, tag or commit of the Hub repository")
    tokenizer: str | None = Field(default=None, description="Hub id or folder, if not the model's own")
    processor: str | None = Field(default=None, description="the same for a processor (text tasks use none)")
    image_processor: str | None = Field(
        default=None, description="the same for an image processor (text tasks use none)"
    )
    feature_extractor: str | None = Field(
        default=None, description="the same for a feature extractor (text tasks use none)"
    )
    auto_class: Annotated[str, StringConstraints(pattern=r"^AutoModel\w*$")] | None = Field(
        default=None, description="the transformers class that loads it; unset: the task's"
    )
    device: Device | None = Field(default=None, description="unset: an accelerator where there is one")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="auto: as the checkpoint says"
    )
    backend: Literal["torch"] = Field(default="torch", description="what computes")
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] | None = Field(
        default=None, description="unset: transformers' choice"
    )
    threads: int | None = Field(default=None, ge=1, description="compute threads; unset: a fair share of cores − 1")
    replicas: int = Field(default=1, ge=1, le=64, description="worker processes of this model")
    batch: BatchForm = Field(default=BatchForm(), description="see below")
    queue: QueueForm = Field(default=QueueForm(), description="see below")
    keep_alive: Duration = Field(default=300.0, description="unload so long after the last use; 0 at once, -1 never")
    pinned: bool = Field(default=False, description="never evicted, never unloaded for idleness")
    preload: bool = Field(default=False, description="load at the start instead of at the first request")
    memory: Size | None = Field(default=None, description="an estimate of its need, when known")
    pooling: Literal["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"] | None = Field(
        default=None, description="for embeddings of models without sentence-transformers files"
    )
    normalize: bool | None = Field(default=None, description="scale those embeddings to length 1")
    parameters: dict[str, Any] = Field(default={}, description="parameters of requests that do not send them")
    trust_remote_code: bool = Field(default=False, description="run Python code of the model's repository")
    allow_pickle: bool = Field(default=False, description="load weights that are not safetensors")
    offline: bool = Field(default=False, description="never ask the Hub for this model")


NO_DEFAULTS = ("id", "model", "task", "tasks", "aliases", "revision", "tokenizer")
DEFAULTS = tuple(name for name in EntryForm.model_fields if name not in NO_DEFAULTS)


class TotalQueueForm(Form):
    max_items: int = Field(default=8192, ge=1, description="items admitted at a time, all models together")


class FileForm(Form):
    models: list[dict[str, Any]] = Field(min_length=1, description="the entries")
    defaults: dict[str, Any] = Field(default={}, description="keys for all entries that do not say otherwise")
    budget: dict[Device, SizeOrShare] = Field(
        default={},
        description='memory for models per device, such as `{cpu: 8GiB, "cuda:0": 80%}`; unset: what is free',
    )
    queue: TotalQueueForm = Field(default=TotalQueueForm(), description="see below")


LATER_KEYS = frozenset(
    {"quantization", "compile", "adapters", "env", "chat_template", "kv_cache", "device_map", "devices", "priority"}
    | {"drain"}
)
LATER_TOP_LEVEL_KEYS = frozenset({"media", "environments", "moderations", "catalog"})


def unknown_key(key: str, allowed: Iterable[str], later: Iterable[str] = ()) -> str:
    """Why a key may not stand where it does."""
    if key in later:
        return f'"{key}" is not supported by this version.'
    close = difflib.get_close_matches(key, list(allowed), n=1)
    return f'unknown key "{key}"' + (f' (did you mean "{close[0]}"?).' if close else ".")
