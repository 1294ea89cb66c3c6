"""The fleet of an ingress: it decides nothing but which model a request is for. Ray Serve chooses the replica and how
many there are; admission, batching and the worker are the replica's. Owned by the ingress's event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, NoReturn

import msgspec

from app.catalog import AdapterSpec, Catalog, ModelSpec
from app.channel.messages import Progress
from app.errors import (
    BackendFailed,
    DeadlineExceeded,
    Draining,
    ModelFailed,
    ModelLoading,
    NotAvailable,
    Overloaded,
    Unavailable,
)
from app.fleet.clock import Clock, LoopClock
from app.fleet.directory import Directory
from app.fleet.events import FleetEvents
from app.fleet.requests import DeviceUse, JobRequest, JobResult, ModelStatus, Reloaded
from app.ray.handles import ModelHandle, ReplicaLost
from app.ray.metrics import Board
from app.ray.wire import Answered, Parts, Refused, Reply, Standing, decode_reply, encode
from app.tasks.completion import Delta

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 6
"""Of a request whose replicas end. What kills a worker alone is found out in the replica, which outlives it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0  # Serve hears of a replica's end a moment after its requests do
_LOADING_RETRY_S = 5.0
_RETRY_S = 1.0
_DRAINING = "The server is shutting down and takes no new requests."


class RayFleet:
    """Implements `FleetAPI`. handles: of every model that can be served, by id."""

    def __init__(
        self,
        catalog: Catalog,
        handles: Mapping[str, ModelHandle],
        board: Board,
        events: FleetEvents,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._directory = Directory(catalog.models)
        self._handles = handles
        self._events = events
        self._clock: Clock = clock if clock is not None else LoopClock()
        self._board = board
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_accepting = True

    # Begin and end

    async def start(self) -> None:
        """Nothing: deployments are Serve's to start."""

    @property
    def is_accepting(self) -> bool:
        return self._is_accepting

    async def drain(self, timeout_s: float) -> None:
        """Serve waits for what an ingress answers before it ends it."""
        self._is_accepting = False

    async def stop(self) -> None:
        self._is_accepting = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Jobs

    async def submit(self, request: JobRequest) -> JobResult:
        handle, spec = self._handle(request)
        message = _encoded(request)
        due_s = _time_left_s(request, spec)
        began_at = self._clock.now()
        try:
            async with asyncio.timeout(due_s) as limit:
                for attempt in range(MAX_ATTEMPTS):
                    try:
                        with self._refusals_counted(spec):
                            reply = await handle.call("submit", message)
                        return _result(decode_reply(reply))
                    except (ReplicaLost, Draining) as error:
                        await self._pause(spec, attempt, error)
        except TimeoutError:
            if not limit.expired():
                raise
            self._raise_late(spec, began_at)
        raise _lost(spec)

    async def stream(self, request: JobRequest) -> AsyncGenerator[Delta | JobResult, None]:
        handle, spec = self._handle(request)
        message = _encoded(request)
        began_at = self._clock.now()
        due_at = asyncio.get_running_loop().time() + _time_left_s(request, spec)
        has_begun = False
        for attempt in range(MAX_ATTEMPTS):
            try:
                async with aclosing(handle.stream("stream", message)) as replies:
                    while True:
                        with self._refusals_counted(spec):
                            async with asyncio.timeout_at(due_at) as limit:
                                reply = decode_reply(await anext(replies))
                        if not isinstance(reply, Parts):
                            yield _result(reply)
                            return
                        has_begun = True
                        for delta in reply.deltas:
                            yield delta
            except TimeoutError:
                if not limit.expired():
                    raise
                self._raise_late(spec, began_at)
            except (ReplicaLost, Draining, StopAsyncIteration) as error:
                if has_begun:
                    raise BackendFailed(f'The replica of "{spec.id}" that wrote this ended before its end.') from error
                await self._pause(spec, attempt, error)
        raise _lost(spec)

    def _handle(self, request: JobRequest) -> tuple[ModelHandle, ModelSpec]:
        spec = self._directory.get(request.model_id)
        if not self._is_accepting:
            raise Draining(_DRAINING, retry_after_s=_LOADING_RETRY_S)
        if spec.problem is not None:
            self._events.rejected(spec.id, "failed")
            raise ModelFailed(spec.problem)
        handle = self._handles[spec.id]
        if not request.wait_for_load and not self._board.statuses(spec.id):
            self._spawn(self._wake(handle))
            raise ModelLoading(f'"{spec.id}" is loading.', retry_after_s=_LOADING_RETRY_S)
        return handle, spec

    @contextmanager
    def _refusals_counted(self, spec: ModelSpec) -> Iterator[None]:
        """Those of Serve, which are raised by the handle. A replica counts its own."""
        try:
            yield
        except Overloaded:
            self._events.rejected(spec.id, "model_queue")
            raise

    async def _wake(self, handle: ModelHandle) -> None:
        try:
            await handle.call("load", b"")
        except (ReplicaLost, Overloaded):
            pass  # whoever waits for the model finds out

    async def _pause(self, spec: ModelSpec, attempt: int, error: Exception) -> None:
        logger.warning("a replica of %s ended with a request, which goes to another: %s", spec.id, _first_line(error))
        await asyncio.sleep(min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))

    def _raise_late(self, spec: ModelSpec, began_at: float) -> NoReturn:
        waited_s = self._clock.now() - began_at
        raise DeadlineExceeded(f'"{spec.id}" had no answer within {waited_s:.4g} s.') from None

    # Models

    def get(self, name: str) -> ModelSpec:
        return self._directory.get(name)

    def find(self, task: str, model: str | None) -> ModelSpec:
        return self._directory.find(task, model)

    def entries(self) -> Iterable[ModelSpec]:
        return self._directory

    def statuses(self, states: Collection[str] | None = None) -> list[ModelStatus]:
        found = (self._status(spec) for spec in self._directory)
        return [status for status in found if states is None or status.state in states]

    def device_uses(self) -> list[DeviceUse]:
        """An ingress has none; those of the replicas' nodes are Ray's to share out."""
        return []

    def changed_statuses(self) -> list[ModelStatus]:
        """What the gauges of this process show. Those of models are their replicas', but for what no replica tells."""
        return [self._status(spec) for spec in self._directory if spec.problem is not None]

    def status(self, model_id: str) -> ModelStatus:
        return self._status(self._directory.get(model_id))

    def _status(self, spec: ModelSpec) -> ModelStatus:
        if spec.problem is not None:
            return ModelStatus(spec=spec, state="failed", reason=spec.problem, pinned=spec.pinned)
        return together(spec, self._board.statuses(spec.id))

    async def load(self, model_id: str) -> AsyncIterator[Progress | ModelStatus]:
        """At least one replica, which is there when its model is loaded, or cannot be."""
        spec = self._directory.get(model_id)
        if spec.problem is not None:
            raise ModelFailed(spec.problem)
        try:
            reply = decode_reply(await self._handles[spec.id].call("load", b""))
        except ReplicaLost as error:
            raise _lost(spec) from error
        if isinstance(reply, Refused):
            raise reply.error.to_error()
        if not isinstance(reply, Standing):
            raise RuntimeError(f"A replica answered a load with {type(reply).__name__}. This is a bug.")
        yield together(spec, self._board.statuses(spec.id) or [reply.status])

    async def unload(self, model_id: str) -> ModelStatus:
        self._directory.get(model_id)
        raise NotAvailable(
            "On Ray, replicas end by themselves when they are not used (`keep_alive`, `replicas`); none is unloaded by"
            " request."
        )

    def pin(self, model_id: str) -> ModelStatus:
        raise self._cannot_pin(model_id)

    def unpin(self, model_id: str) -> ModelStatus:
        raise self._cannot_pin(model_id)

    def _cannot_pin(self, model_id: str) -> NotAvailable:
        self._directory.get(model_id)
        return NotAvailable(
            "On Ray, models.yaml says what stays (`pinned`, `keep_alive`, `replicas`), for Serve decides how many"
            " replicas there are; nothing is pinned by request."
        )

    async def load_adapter(self, model: str, adapter: AdapterSpec, *, in_place: bool) -> None:
        self._directory.get(model)
        raise NotAvailable("On Ray, adapters are those of models.yaml (`adapters:`); none is loaded by request.")

    def unload_adapter(self, spec: ModelSpec) -> None:
        raise NotAvailable("On Ray, adapters are those of models.yaml (`adapters:`); none is unloaded by request.")

    def reload(self, catalog: Catalog) -> Reloaded:
        raise NotAvailable(
            "On Ray, another models.yaml is deployed, not reloaded: `pipeserve serve --ray` or `serve deploy` again;"
            " Serve replaces the replicas of what changed."
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed. This is a bug.", task.get_name(), exc_info=error)


def _encoded(request: JobRequest) -> bytes:
    """How long a replica stays is not a request's to say."""
    return encode(msgspec.structs.replace(request, keep_alive_s=None, wait_for_load=True))


def _time_left_s(request: JobRequest, spec: ModelSpec) -> float:
    return spec.queue.deadline_s if request.deadline_s is None else request.deadline_s


def _result(reply: Reply) -> JobResult:
    if isinstance(reply, Refused):
        raise reply.error.to_error()
    if not isinstance(reply, Answered):
        raise RuntimeError(f"A replica answered a job with {type(reply).__name__}. This is a bug.")
    return reply.result


def _lost(spec: ModelSpec) -> Unavailable:
    return Unavailable(
        f'"{spec.id}": {MAX_ATTEMPTS} replicas that had this request ended before they had answered it.',
        retry_after_s=_RETRY_S,
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def together(spec: ModelSpec, replicas: Sequence[ModelStatus]) -> ModelStatus:
    """The status of a model, from those of its replicas."""
    if not replicas:
        return ModelStatus(spec=spec, state="unloaded" if spec.is_resolved else "unresolved", pinned=spec.pinned)
    ready = [one for one in replicas if one.state == "ready"]
    shown = (ready or list(replicas))[0]
    memory: dict[str, int] = {}
    for one in replicas:
        for device, num_bytes in one.memory.items():
            memory[device] = memory.get(device, 0) + num_bytes
    waits = [one.wait_s for one in ready if one.wait_s is not None]
    return msgspec.structs.replace(
        shown,
        spec=spec,
        pinned=spec.pinned,
        memory=memory,
        last_used_at=max((one.last_used_at for one in replicas if one.last_used_at is not None), default=None),
        loaded_at=min((one.loaded_at for one in ready if one.loaded_at is not None), default=None),
        in_flight=sum(one.in_flight for one in replicas),
        queued=sum(one.queued for one in replicas),
        wait_s=min(waits, default=None),
        replicas=sum(one.replicas for one in replicas),
        cached_bytes=sum(one.cached_bytes for one in replicas),
    )
