"""models.yaml -> a frozen `Catalog` of `ModelSpec`s. (Reading and checking the file: helper H5 fills this in.)"""

from __future__ import annotations

from typing import Any

import msgspec


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
