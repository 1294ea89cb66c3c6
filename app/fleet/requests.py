"""What the HTTP layer asks of the fleet, and what it gets back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable
from typing import Any, Protocol

import msgspec

from app.catalog import AdapterSpec, Catalog, ModelSpec
from app.channel.messages import Progress, Timings
from app.fairness import NORMAL, Flow, weight_of
from app.fleet.journal import NOBODYS, Journal
from app.tasks.completion import Delta


class JobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One validated request. deadline_s and keep_alive_s are durations from now; None: the model's own.

    inputs: builtins only, media as bytes. media_type: of each input's answer.
    """

    model_id: str
    task: str
    inputs: list[Any]
    parameters: dict[str, Any]
    num_items: int  # permits it takes, one per input unless the task counts otherwise
    request_id: str = ""
    media_type: str = "application/json"
    deadline_s: float | None = None
    keep_alive_s: float | None = None
    wait_for_load: bool = True
    adapter: AdapterSpec | None = None  # of the model
    client: str = ""  # the name of the API key; "" where the server has none
    priority: int = NORMAL  # of `app/fairness.py`
    weight: float = 1.0  # the client's share among those of its priority
    journal: Journal = NOBODYS

    @property
    def flow(self) -> Flow:
        return self.client, self.priority

    @property
    def flow_weight(self) -> float:
        return weight_of(self.priority, self.weight)


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """outputs: one fragment per input, of the media type asked for. queue_s: all waiting, in both processes, loads
    included."""

    outputs: list[bytes]
    timings: Timings
    load_wait_s: float
    total_s: float
    batch_size: int
    num_tokens: int  # that were read
    num_generated: int = 0  # tokens that were written, where a text was
    is_kept: bool = False  # it is an earlier request's


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `/v1/models` shows. state: unresolved, unloaded, loading, ready, unloading or failed."""

    spec: ModelSpec
    state: str
    reason: str | None = None  # why it failed
    memory: dict[str, int] = {}  # of all replicas, in bytes by device; empty: not loaded
    dtype: str | None = None
    num_parameters: int | None = None
    max_length: int | None = None
    embedding_size: int | None = None
    largest_difference: float | None = None  # of an export from torch, as a share of the largest output
    last_used_at: float | None = None  # unix time
    loaded_at: float | None = None
    unloads_at: float | None = None  # unix time, unless it is used before; None: in use, not loaded, or never
    pinned: bool = False  # by its entry, or by hand
    in_flight: int = 0  # permits in use
    queued: int = 0  # of these, how many wait for the model to load or for a forward
    wait_s: float | None = None  # that one more would wait, by what those before it waited; None: not known
    replicas: int = 0
    adapter_problems: dict[str, str] = {}  # by id
    cached_bytes: int = 0  # of answers that are kept

    def with_adapters(self) -> list[ModelStatus]:
        """This one, and one for each adapter."""
        return [msgspec.structs.replace(self, spec=spec) for spec in self.spec.with_adapters()]

    @property
    def device(self) -> str | None:
        """Or devices: `cuda:0,cuda:1`."""
        return ",".join(self.memory) or None

    @property
    def memory_bytes(self) -> int | None:
        return sum(self.memory.values()) if self.memory else None


class DeviceUse(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of a device, as models are given it. budget_bytes: what they may take; None: no limit is known.
    used_bytes: what those have that are loaded, or on their way in or out."""

    device: str
    budget_bytes: int | None
    used_bytes: int


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the entries of a catalogue that was read again: their ids. problems: why some of them cannot be
    served. restart_needed: a sentence for each key that counts only from the next start on."""

    added: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    num_unchanged: int = 0
    problems: dict[str, str] = {}
    restart_needed: list[str] = []


class ModelsAPI(Protocol):
    """What a request may ask for. Owned by the API process's event loop; every method is called on it."""

    async def submit(self, request: JobRequest) -> JobResult:
        """Answer one job. Cancelling the calling task cancels the job at whatever step it is.

        Raises the errors of `app/errors.py`: NotServed, Overloaded (with retry_after_s), ModelLoading, ModelFailed,
        Draining, DeadlineExceeded, InvalidInput, InputTooLarge, BackendFailed, WorkerLost.
        """
        ...

    def stream(self, request: JobRequest) -> AsyncGenerator[Delta | JobResult, None]:
        """Answer one job of a task that generates text: its parts as they are made, the whole last.

        Leaving the iterator (`aclose`, or cancelling the task that waits for it) cancels the job. A part that is not
        taken holds up its own stream only. Raises as `submit`, before the first part or after any.
        """
        ...

    def entries(self) -> Iterable[ModelSpec]:
        """Of all entries, in the order of their declaration."""
        ...

    def statuses(self, states: Collection[str] | None = None) -> list[ModelStatus]:
        """The same with their states, which takes a while where many are declared. states: only those in one of
        these."""
        ...

    def status(self, model_id: str) -> ModelStatus:
        """By id or alias, or by the name of an adapter: then its model's, with `spec.adapter`. Raises NotServed."""
        ...

    def get(self, name: str) -> ModelSpec:
        """The spec of `status`."""
        ...

    def find(self, task: str, model: str | None) -> ModelSpec:
        """The entry that answers `task`: the named one (as for `status`), else the first declared. Raises NotServed."""
        ...

    async def load_adapter(self, model: str, adapter: AdapterSpec, *, in_place: bool) -> None:
        """Have the model take one more adapter, also after its workers were replaced. in_place: it may take the place
        of one of the same id. Raises InvalidInput for what is wrong with it, and as `submit`."""
        ...

    def unload_adapter(self, spec: ModelSpec) -> None:
        """The adapter of the spec; jobs that have it go on with it."""
        ...

    def load(self, model_id: str) -> AsyncIterator[Progress | ModelStatus]:
        """Load if needed; progress as it happens, the READY status last. Raises ModelFailed, NotServed, Draining."""
        ...

    async def unload(self, model_id: str) -> ModelStatus:
        """End the model's workers once their running jobs are answered. Raises NotServed."""
        ...

    def pin(self, model_id: str) -> ModelStatus:
        """Never evict the model for others nor unload it for idleness, until it is unpinned or unloaded by request, its
        entry changes, or the server ends. Loads nothing. Raises NotServed, NotAvailable."""
        ...

    def unpin(self, model_id: str) -> ModelStatus:
        """Treat it as one that is not `pinned`, whatever its entry says. Raises as `pin`."""
        ...

    @property
    def is_accepting(self) -> bool: ...


class FleetAPI(ModelsAPI, Protocol):
    """And what its owner asks for."""

    def changed_statuses(self) -> list[ModelStatus]:
        """Of the models that are, or since the last call were, anything but at rest. All, at the first call."""
        ...

    def device_uses(self) -> list[DeviceUse]:
        """None until the devices are measured, right after the start."""
        ...

    def reload(self, catalog: Catalog) -> Reloaded:
        """Serve these entries in the place of those that are served now. No request is lost: what has begun goes on
        with the workers that it has, what waits for a load gets the entry as it is now. Raises Draining."""
        ...

    async def start(self) -> None:
        """Begin: forkserver, preloads, resolving. Returns at once; readiness waits for none of it."""
        ...

    async def drain(self, timeout_s: float) -> None:
        """Refuse new work with Draining, finish what is running up to the limit."""
        ...

    async def stop(self) -> None:
        """End every worker now. Idempotent."""
        ...
