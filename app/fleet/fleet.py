"""The fleet: admission, residency and workers put together. Owned by the API process's event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
)
from typing import Any

import msgspec

from app.catalog import AdapterSpec, Catalog, ModelSpec
from app.channel.messages import BatchDone, EngineReport, ErrorInfo, JobDone, Progress, Ready, Timings
from app.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    InvalidInput,
    ModelFailed,
    ModelLoading,
    NotAvailable,
    NotServed,
    OutOfMemory,
    PipeserveError,
    Unavailable,
)
from app.fairness import weight_of
from app.fleet.admission import Admission
from app.fleet.answers import Answers, Kept, key_of
from app.fleet.changes import Difference, difference, with_changes
from app.fleet.clock import Alarm, Clock, LoopClock
from app.fleet.directory import Directory
from app.fleet.events import FleetEvents, NullEvents
from app.fleet.handle import Limits
from app.fleet.jobs import Job, Stream
from app.fleet.listener import Listener
from app.fleet.memory import Devices, MachineMemory, Memory
from app.fleet.processes import Launcher
from app.fleet.replicas import Replicas
from app.fleet.requests import DeviceUse, JobRequest, JobResult, ModelStatus, Reloaded
from app.fleet.residency import (
    Action,
    Changed,
    Estimate,
    Grant,
    Lease,
    Refuse,
    Removed,
    Residency,
    Resolve,
    StartLoad,
    State,
    StopWorkers,
)
from app.fleet.threads import Threads, available_cores
from app.settings import Settings
from app.tasks.completion import Delta
from app.tasks.load_adapter import TASK as LOAD_ADAPTER
from app.tasks.registry import ALSO_ANSWERED_BY, UNLISTED_TASKS

logger = logging.getLogger(__name__)

Resolver = Callable[[ModelSpec], Awaitable[ModelSpec]]
"""Finds out what an entry is whose task is not known. Raises PipeserveError with the reason why it cannot be."""

MAX_ADAPTERS = 256
"""Of a model that takes more at run time: they stay in its workers' memory."""
_UNKNOWN_LOAD_S = 5.0
_MIN_RETRY_S = 1.0
_DRAINING = "The server is shutting down and takes no new requests."
_DRAINING_RETRY_S = 5.0


class _Model:
    """One entry: its workers, and what is known of them. Tells the fleet what its workers do.

    version: grows when the entry becomes another one for its workers, which are those of `replicas.spec`.
    """

    def __init__(self, spec: ModelSpec, fleet: Fleet, replicas: Callable[[_Model], Replicas]) -> None:
        self.declared = spec  # as models.yaml has it, whatever was found out or came at run time
        self.spec = spec
        self.version = 0
        self.is_removed = False  # it answers what it was asked before, and is gone then
        self.places: list[tuple[str, ...]] = []  # the devices of each replica, from the estimate on
        self.readies: list[Ready] = []
        self.loaded_at: float | None = None
        self.last_used_at: float | None = None
        self.load_started_at: float | None = None  # on the clock; None: no load is measured now
        self.load_s = _UNKNOWN_LOAD_S  # of the last load
        self.progress: Progress | None = None
        self.listeners: set[Listener] = set()
        self.waiting_for_rest: list[asyncio.Future[None]] = []
        self.answers = Answers(spec.cache_bytes or 0)
        self._fleet = fleet
        self.replicas = replicas(self)

    def become(self, spec: ModelSpec) -> None:
        """Workers that are those of another version keep what they were told, to be replaced by the same."""
        if self.replicas.version == self.version:
            self.replicas.spec = spec
        self.spec = spec

    def become_another(self, spec: ModelSpec) -> None:
        """What has begun goes on with the workers that there are."""
        self.spec = spec
        self.version += 1

    def start(self) -> None:
        self.replicas.spec, self.replicas.version = self.spec, self.version
        self.replicas.start(self.places)

    def on_progress(self, progress: Progress) -> None:
        self.progress = progress
        for listener in self.listeners:
            listener.tell(progress)

    def on_ready(self, readies: list[Ready]) -> None:
        self._fleet._on_ready(self, readies)

    def on_lost(self) -> None:
        self._fleet._on_lost(self)

    def on_failed(self, error: ErrorInfo) -> None:
        self._fleet._on_failed(self, error)

    def on_stopped(self) -> None:
        self._fleet._on_stopped(self)

    def on_batch(self, batch: BatchDone) -> None:
        self._fleet._events.batch_done(self.spec.id, batch)

    def on_inputs(self, job: Job, num_inputs: int) -> None:
        items_each = job.num_items // len(job.request.inputs)
        self._fleet._admission.release_some(job.permit, items_each * num_inputs)

    def on_engine(self, report: EngineReport) -> None:
        self._fleet._events.engine_reported(self.spec.id, report)

    def on_restart(self) -> None:
        self._fleet._events.restarted(self.spec.id)

    def tell_end(self, end: ModelStatus | PipeserveError) -> None:
        for listener in self.listeners:
            listener.end(end)

    def tell_rest(self) -> None:
        """Wake those that wait for the model to be unloaded, or to have failed."""
        for waiting in self.waiting_for_rest:
            if not waiting.done():
                waiting.set_result(None)
        self.waiting_for_rest.clear()


class Fleet:
    """Implements `FleetAPI`. Nothing is started before `start`, so it may be made where no event loop runs."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        launcher: Launcher,
        *,
        events: FleetEvents | None = None,
        clock: Clock | None = None,
        resolver: Resolver | None = None,
        memory: Memory | None = None,
        cores: int | None = None,
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._events: FleetEvents = events if events is not None else NullEvents()
        self._clock: Clock = clock if clock is not None else LoopClock()
        self._resolver = resolver
        self._memory: Memory = memory if memory is not None else MachineMemory(catalog.budget, settings.cache_dir)
        self._limits = Limits(
            heartbeat_s=settings.heartbeat_timeout_s,
            load_heartbeat_s=settings.load_heartbeat_timeout_s,
            forward_s=settings.forward_timeout_s,
        )
        self._threads = Threads(cores if cores is not None else available_cores(), self._clock)
        self._residency = Residency()
        self._admission = Admission(catalog.queue_items(settings.max_queue_items), self._events.rejected)
        self._budget = catalog.budget
        self._models = {spec.id: self._add(spec) for spec in catalog.models}
        self._directory = Directory(catalog.models)
        self._stirred = set(self._models)  # models that are not at rest, or were not when somebody last asked
        self._alarm = Alarm(self._clock, self._on_alarm)
        self._job_ids = itertools.count(1)
        self._adapter_serials = itertools.count(1)
        self._jobs: dict[Lease, Job] = {}
        self._actions: deque[Action] = deque()
        self._is_performing = False
        self._devices: asyncio.Future[Devices] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_accepting = True
        self._is_stopped = False
        self._drained: asyncio.Future[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    def _add(self, spec: ModelSpec) -> _Model:
        error = ErrorInfo(code=ModelFailed.code, message=spec.problem) if spec.problem is not None else None
        state = State.FAILED if error is not None else State.UNLOADED if spec.is_resolved else State.UNRESOLVED
        self._residency.add(spec, state, error)
        self._admit(spec)
        return _Model(spec, self, self._make_replicas)

    def _admit(self, spec: ModelSpec) -> None:
        self._admission.add(
            spec.id,
            spec.queue.max_items,
            weight=weight_of(spec.priority),
            batch_items=spec.batch.max_items * spec.replicas,
        )

    def _make_replicas(self, model: _Model) -> Replicas:
        return Replicas(model.spec, self._launcher, self._clock, self._limits, self._threads, model)

    # Begin and end

    async def start(self) -> None:
        self._devices = asyncio.get_running_loop().create_future()
        await self._launcher.start()
        self._spawn(self._measure(), "measure devices")
        for model in self._models.values():
            self._begin_with(model)

    def _begin_with(self, model: _Model) -> None:
        """It is declared from now on."""
        self._perform(self._residency.resolve(model.spec.id))
        if model.spec.preload:
            self._perform(self._residency.want(model.spec.id, self._clock.now()))

    @property
    def is_accepting(self) -> bool:
        return self._is_accepting

    async def drain(self, timeout_s: float) -> None:
        self._is_accepting = False
        if not self._jobs:
            return
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        drained = self._drained
        timer = self._clock.call_at(self._clock.now() + timeout_s, lambda: _settle(drained))
        try:
            await asyncio.shield(drained)
        finally:
            timer.cancel()

    async def stop(self) -> None:
        self._is_accepting = False
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="stop the fleet")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self._is_stopped = True
        self._alarm.cancel()
        for job in self._jobs.values():
            job.fail(Draining(_DRAINING, retry_after_s=_DRAINING_RETRY_S))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self._models.values():
            model.tell_end(Draining(_DRAINING))
            if model.readies:
                self._events.evicted(model.spec.id, "shutdown")
            if model.replicas.is_alive:
                model.replicas.kill()
        await self._launcher.stop()
        for model in self._models.values():
            await model.replicas.wait()
            model.tell_rest()
        self._threads.close()

    # Jobs

    async def submit(self, request: JobRequest) -> JobResult:
        return await self._answered(request, None)

    async def stream(self, request: JobRequest) -> AsyncGenerator[Delta | JobResult, None]:
        stream = Stream()
        answer = asyncio.create_task(self._answered(request, stream), name=f"stream of {request.model_id}")
        answer.add_done_callback(lambda _: stream.end())
        try:
            async for delta in stream.parts():
                yield delta
            yield await answer
        finally:
            if not answer.done():
                answer.cancel()
                await asyncio.wait({answer})
            if not answer.cancelled():
                answer.exception()  # seen, whether anybody waited for it or not

    async def _answered(self, request: JobRequest, stream: Stream | None) -> JobResult:
        model = self._get(request.model_id)
        self._check(model, request)
        key = None
        if model.spec.cache_bytes is not None and stream is None:
            key = await key_of(request, model.version)
            model = self._get(request.model_id)  # a reload may have come between
        if key is not None and (kept := model.answers.find(key)) is not None:
            self._events.answer_looked_up(model.spec.id, "hit")
            result = _kept_result(kept)
            request.journal.ended(result, None)
            return result
        now = self._clock.now()
        queue = model.spec.queue
        time_left_s = queue.deadline_s if request.deadline_s is None else request.deadline_s
        permit = self._admission.acquire(
            model.spec.id,
            request.num_items,
            now,
            flow=request.flow,
            weight=request.flow_weight,
            max_wait_s=time_left_s if queue.max_wait_s is None else min(queue.max_wait_s, time_left_s),
        )
        lease = Lease(model.spec.id, request.keep_alive_s)
        job = Job(next(self._job_ids), request, lease, permit, now, now + time_left_s, stream)
        job.key = key
        self._jobs[job.lease] = job
        request.journal.began(is_stream=stream is not None)
        is_answered = False
        waited_s: float | None = None
        try:
            self._perform(self._residency.acquire(job.lease, now))
            if not job.lease.is_granted:
                request.journal.waits_for_load()
            self._set_deadline(model, job)
            done = await job.answered
            is_answered = True
            waited_s = max(0.0, job.sent_at - job.granted_at) + done.wait_s
            model.answers.answered(job, done)
        except PipeserveError as error:
            if isinstance(error, DeadlineExceeded) and not self._has_begun(model, job):
                self._events.shed(model.spec.id)
                waited_s = self._clock.now() - job.granted_at if job.lease.is_granted else None
            model.answers.failed(job, error)
            self._events.job_failed(model.spec.id, request.task, error.code)
            request.journal.ended(None, error.code)
            raise
        except asyncio.CancelledError:
            self._events.job_failed(model.spec.id, request.task, Cancelled.code)
            request.journal.ended(None, Cancelled.code)
            raise
        finally:
            self._leave(model, job, is_answered=is_answered, waited_s=waited_s)
        result = self._result(job, done)
        self._events.job_done(model.spec.id, request.task, result)
        request.journal.ended(result, None)
        return result

    def _has_begun(self, model: _Model, job: Job) -> bool:
        """Whether something was done for it, or for the equal one whose answer it waited for."""
        return model.replicas.is_computing(job) or model.answers.follows(job)

    def _check(self, model: _Model, request: JobRequest) -> None:
        """What can be refused before any permit is taken."""
        model_id = model.spec.id
        if not self._is_accepting:
            self._events.rejected(model_id, "draining")
            raise Draining(_DRAINING, retry_after_s=_DRAINING_RETRY_S)
        error = self._residency.error(model_id)
        if self._residency.state(model_id) is State.FAILED and error is not None:
            self._events.rejected(model_id, "failed")
            raise _failure(error)
        self._check_task(model, request.task)
        if not request.wait_for_load and self._residency.state(model_id) is not State.READY:
            self._perform(self._residency.want(model_id, self._clock.now()))
            raise ModelLoading(f'"{model_id}" is loading.', retry_after_s=self._remaining_load_s(model))

    def _check_task(self, model: _Model, task: str) -> None:
        """What only other dialects' routes ask (tokenizing) belongs to no model's tasks; the worker knows."""
        tasks = model.spec.all_tasks
        answers = task in tasks or task in UNLISTED_TASKS or ALSO_ANSWERED_BY.get(task) in tasks
        if model.spec.tasks and not answers:
            served = ", ".join(tasks)
            raise NotServed(f'"{model.spec.id}" does not serve {task}; it serves {served}.', param="model")

    def _remaining_load_s(self, model: _Model) -> float:
        elapsed_s = 0.0 if model.load_started_at is None else self._clock.now() - model.load_started_at
        return max(_MIN_RETRY_S, model.load_s - elapsed_s)

    def _set_deadline(self, model: _Model, job: Job) -> None:
        due = job.due_at
        if not job.lease.is_granted:
            due = min(due, job.arrived_at + self._settings.load_wait_s)
        job.timer = self._clock.call_at(due, lambda: self._on_deadline(model, job))

    def _on_deadline(self, model: _Model, job: Job) -> None:
        now = self._clock.now()
        waited_s = now - job.arrived_at
        if not job.lease.is_granted:
            job.fail(DeadlineExceeded(f'"{model.spec.id}" was still loading after {waited_s:.4g} s{self._why(model)}.'))
        elif now >= job.due_at:
            job.fail(DeadlineExceeded(f'"{model.spec.id}" had no answer within {waited_s:.4g} s.'))
        else:
            self._set_deadline(model, job)

    def _why(self, model: _Model) -> str:
        pinned = ", ".join(f'"{one}"' for one in self._residency.pinned_in_the_way(model.spec.id))
        return f": there is no room for it beside what is pinned, {pinned}" if pinned else ""

    def _leave(self, model: _Model, job: Job, *, is_answered: bool, waited_s: float | None) -> None:
        """However the job ended: give back all that it had."""
        now = self._clock.now()
        if job.timer is not None:
            job.timer.cancel()
        if not is_answered:
            model.replicas.withdraw(job)
            if job.answered.done() and not job.answered.cancelled():
                job.answered.exception()  # seen, though a cancellation came first
        if (heir := model.answers.left(job)) is not None:
            model.replicas.submit(heir)
        del self._jobs[job.lease]
        model.last_used_at = self._clock.unix_time()
        self._admission.release(job.permit, now, waited_s=waited_s, took_s=now - job.granted_at)
        self._perform(self._residency.release(job.lease, now))
        if self._drained is not None and not self._jobs:
            _settle(self._drained)

    def _result(self, job: Job, done: JobDone) -> JobResult:
        timings = done.timings
        return JobResult(
            outputs=done.outputs,
            timings=Timings(
                queue_s=timings.queue_s + job.sent_at - job.arrived_at,
                prepare_s=timings.prepare_s,
                forward_s=timings.forward_s,
                finish_s=timings.finish_s,
            ),
            load_wait_s=job.granted_at - job.arrived_at,
            total_s=self._clock.now() - job.arrived_at,
            batch_size=done.batch_size,
            num_tokens=done.num_tokens,
            num_generated=done.num_generated,
        )

    # Models

    def get(self, name: str) -> ModelSpec:
        return self._directory.get(name)

    def find(self, task: str, model: str | None) -> ModelSpec:
        return self._directory.find(task, model)

    def entries(self) -> Iterable[ModelSpec]:
        return self._directory

    def statuses(self, states: Collection[str] | None = None) -> list[ModelStatus]:
        found = self._models if states is None else self._residency.in_states(states)
        return [self._status(self._models[spec.id]) for spec in self._directory if spec.id in found]

    def changed_statuses(self) -> list[ModelStatus]:
        moving = {*self._residency.live(), *(lease.model_id for lease in self._jobs)}
        found = [self._models[model_id] for model_id in self._stirred | moving if model_id in self._models]
        statuses = [self._status(model) for model in found]
        self._stirred = moving | {status.spec.id for status in statuses if status.wait_s is not None}
        return statuses

    def device_uses(self) -> list[DeviceUse]:
        budgets = self._residency.budgets()
        return [
            DeviceUse(device=device, budget_bytes=budget, used_bytes=self._residency.reserved_bytes(device))
            for device, budget in budgets.items()
        ]

    def status(self, model_id: str) -> ModelStatus:
        spec = self._directory.get(model_id)
        return msgspec.structs.replace(self._status(self._models[spec.id]), spec=spec)

    async def load(self, model_id: str) -> AsyncIterator[Progress | ModelStatus]:
        model = self._get(model_id)
        if not self._is_accepting:
            raise Draining(_DRAINING, retry_after_s=_DRAINING_RETRY_S)
        if self._residency.state(model.spec.id) is State.READY:
            yield self.status(model.spec.id)
            return
        listener = Listener()
        if model.progress is not None:
            listener.tell(model.progress)
        model.listeners.add(listener)
        try:
            self._perform(self._residency.want(model.spec.id, self._clock.now(), retry=True))
            async for item in listener.follow():
                yield item
        finally:
            model.listeners.discard(listener)

    async def unload(self, model_id: str) -> ModelStatus:
        model = self._get(model_id)
        self._perform(self._residency.unload(model.spec.id, self._clock.now(), "request"))
        if self._residency.state(model.spec.id) in (State.LOADING, State.UNLOADING) and not self._is_stopped:
            resting = asyncio.get_running_loop().create_future()
            model.waiting_for_rest.append(resting)
            await resting
        return self.status(model.spec.id)

    def pin(self, model_id: str) -> ModelStatus:
        model = self._get(model_id)
        self._residency.pin(model.spec.id)
        return self.status(model_id)

    def unpin(self, model_id: str) -> ModelStatus:
        model = self._get(model_id)
        self._perform(self._residency.unpin(model.spec.id, self._clock.now()))
        return self.status(model_id)

    async def load_adapter(self, model: str, adapter: AdapterSpec, *, in_place: bool) -> None:
        """A worker has loaded it before others hear of it. Those that come later load it with the model, those that are
        there already at the first job that has it."""
        entry = self._get(model)
        self._check_adapter(entry.spec, adapter, in_place=in_place)
        adapter = msgspec.structs.replace(adapter, serial=next(self._adapter_serials))
        try:
            await self.submit(
                JobRequest(
                    model_id=entry.spec.id,
                    task=LOAD_ADAPTER.name,
                    inputs=[adapter.id],
                    parameters={},
                    num_items=1,
                    adapter=adapter,
                )
            )
            self._check_adapter(entry.spec, adapter, in_place=in_place)
        except BaseException:
            entry.replicas.drop_adapter(adapter)
            raise
        self._forget_adapter(entry, adapter.id)
        self._become(entry, msgspec.structs.replace(entry.spec, adapters=(*entry.spec.adapters, adapter)))

    def _check_adapter(self, spec: ModelSpec, adapter: AdapterSpec, *, in_place: bool) -> None:
        """Whether its id can be given to it, and there is room. Raises InvalidInput."""
        old = spec.find_adapter(adapter.id)
        for name in (adapter.id, f"{spec.id}:{adapter.id}"):
            try:
                taken = self._directory.get(name)
            except NotServed:
                continue
            if old is None or taken.adapter != old:
                raise InvalidInput(f'lora_name: "{name}" is the name of something else here.', param="lora_name")
        if old is None and len(spec.adapters) >= MAX_ADAPTERS:
            text = f'"{spec.id}" has {MAX_ADAPTERS} adapters already; unload one of them first.'
            raise InvalidInput(f"lora_name: {text}", param="lora_name")
        if old is not None and not in_place:
            raise InvalidInput(
                f'lora_name: the adapter "{adapter.id}" has been loaded already; load_inplace: true puts another in its'
                " place.",
                param="lora_name",
            )

    def unload_adapter(self, spec: ModelSpec) -> None:
        assert spec.adapter is not None, "A model was to be unloaded as an adapter. This is a bug."
        self._forget_adapter(self._models[spec.id], spec.adapter.id)

    def _forget_adapter(self, model: _Model, name: str) -> None:
        old = model.spec.find_adapter(name)
        if old is not None:
            kept = tuple(one for one in model.spec.adapters if one is not old)
            self._become(model, msgspec.structs.replace(model.spec, adapters=kept))
            model.replicas.drop_adapter(old)

    def _become(self, model: _Model, spec: ModelSpec) -> None:
        """The same entry, of which more is known, or with other adapters."""
        model.become(spec)
        if not model.is_removed:
            self._directory.put(spec)

    def _get(self, name: str) -> _Model:
        return self._models[self._directory.get(name).id]

    def _ungranted_items(self, model_id: str) -> int:
        jobs = (self._jobs.get(lease) for lease in self._residency.waiting(model_id))
        return sum(job.num_items for job in jobs if job is not None)

    def _status(self, model: _Model) -> ModelStatus:
        model_id = model.spec.id
        error = self._residency.error(model_id)
        state = self._residency.state(model_id)
        ready = model.readies[0] if model.readies else None
        return ModelStatus(
            spec=model.spec,
            state=state.value,
            reason=error.message if error is not None and state is State.FAILED else None,
            memory=_total(one.memory for one in model.readies),
            dtype=ready.dtype if ready is not None else None,
            num_parameters=ready.num_parameters if ready is not None else None,
            max_length=ready.max_length if ready is not None else None,
            embedding_size=ready.embedding_size if ready is not None else None,
            largest_difference=ready.largest_difference if ready is not None else None,
            last_used_at=model.last_used_at,
            loaded_at=model.loaded_at if ready is not None else None,
            unloads_at=self._unloads_at(model_id),
            pinned=self._residency.is_pinned(model_id),
            in_flight=self._admission.in_use(model_id),
            wait_s=self._admission.wait_s(model_id, self._clock.now()),
            queued=self._ungranted_items(model_id) + model.replicas.queued_items(),
            replicas=model.replicas.num_ready,
            adapter_problems=ready.adapter_problems if ready is not None else {},
            cached_bytes=model.answers.num_bytes,
        )

    def _unloads_at(self, model_id: str) -> float | None:
        """To the second: it is reckoned from two clocks, and would differ a little each time."""
        until = self._residency.idle_until(model_id)
        return None if until is None else round(self._clock.unix_time() + until - self._clock.now(), 0)

    # Another catalogue

    def reload(self, catalog: Catalog) -> Reloaded:
        if not self._is_accepting:
            raise Draining(_DRAINING, retry_after_s=_DRAINING_RETRY_S)
        declared = {spec.id: spec for spec in catalog.models}
        removed = [model for model in self._models.values() if model.spec.id not in declared and not model.is_removed]
        added: list[_Model] = []
        changed: dict[str, Difference] = {}
        for spec in catalog.models:
            if (model := self._models.get(spec.id)) is None:
                model = self._models[spec.id] = self._add(spec)
                added.append(model)
            elif (found := difference(model.declared, model.spec, spec)).keys or model.is_removed:
                changed[spec.id] = found
                self._change(model, spec, found)
        for model in removed:
            model.is_removed = True
        in_order = [self._models[model_id] for model_id in declared]
        self._models = {model.spec.id: model for model in (*in_order, *self._models.values())}
        self._directory = Directory(model.spec for model in in_order)
        others = [*added, *(self._models[model_id] for model_id in changed)]
        self._events.declare([model.spec for model in others])
        self._stirred.update(model.spec.id for model in others)
        self._perform_changes(added, changed, removed)
        self._apply_limits(catalog)
        return Reloaded(
            added=[model.spec.id for model in added],
            changed=list(changed),
            removed=[model.spec.id for model in removed],
            num_unchanged=len(declared) - len(added) - len(changed),
            problems={model.spec.id: model.spec.problem for model in others if model.spec.problem is not None},
        )

    def _change(self, model: _Model, spec: ModelSpec, found: Difference) -> None:
        """All but what becomes of its workers."""
        before = model.spec.adapters
        taken = {adapter.id for adapter in spec.adapters}
        at_run_time = (one for one in before if one.serial and one.id not in taken and spec.takes_adapters)
        adapters = (*spec.adapters, *at_run_time)
        model.is_removed = False
        model.declared = spec
        if found.needs_load:
            model.become_another(msgspec.structs.replace(spec, adapters=adapters))
        else:
            changes = {key: getattr(spec, key) for key in found.keys}
            model.become(msgspec.structs.replace(model.spec, **{**changes, "adapters": adapters}))
            for adapter in before:
                if adapter not in adapters:
                    model.replicas.drop_adapter(adapter)
        model.answers.resize(spec.cache_bytes or 0)
        self._admit(model.spec)

    def _perform_changes(
        self, added: Iterable[_Model], changed: Mapping[str, Difference], removed: Iterable[_Model]
    ) -> None:
        now = self._clock.now()
        for model_id, found in changed.items():
            model = self._models[model_id]
            self._perform(self._residency.change(model.spec, now, needs_load=found.needs_load))
            if "preload" in found.keys and model.spec.preload:
                self._perform(self._residency.want(model_id, now))
        for model in removed:
            self._perform(self._residency.remove(model.spec.id, now))
        for model in added:
            self._begin_with(model)

    def _apply_limits(self, catalog: Catalog) -> None:
        self._admission.resize(catalog.queue_items(self._settings.max_queue_items))
        if catalog.budget != self._budget:
            self._budget = catalog.budget
            self._spawn(self._share_out_anew(), "share out the memory of the devices")

    async def _share_out_anew(self) -> None:
        assert self._devices is not None, "A fleet that was not started was given other budgets. This is a bug."
        await asyncio.shield(self._devices)
        budgets = self._memory.share_out_anew(self._budget)
        self._perform(self._residency.set_budgets(budgets, self._clock.now()))

    def _forget(self, model: _Model) -> None:
        """The last of it is over."""
        model_id = model.spec.id
        del self._models[model_id]
        self._residency.forget(model_id)
        self._admission.remove(model_id)
        self._events.forget(model_id)
        model.tell_rest()
        model.tell_end(NotServed(f'"{model_id}" was removed from models.yaml.', param="model"))

    # What residency decides

    def _perform(self, actions: Iterable[Action]) -> None:
        """In order; what follows from an action comes after those that are there already."""
        self._actions.extend(actions)
        if self._is_performing:
            return
        self._is_performing = True
        try:
            while self._actions and not self._is_stopped:
                self._execute(self._actions.popleft())
        finally:
            self._is_performing = False
        if not self._is_stopped:
            self._alarm.set(self._residency.next_due(self._clock.now()))

    def _execute(self, action: Action) -> None:
        match action:
            case Grant(lease):
                self._grant(lease)
            case Refuse(lease, error):
                self._refuse(lease, error)
            case Changed(model_id, state):
                self._changed(self._models[model_id], state)
            case Resolve(model_id):
                self._spawn(self._resolve(self._models[model_id]), f"resolve {model_id}")
            case Estimate(model_id):
                self._spawn(self._estimate(self._models[model_id]), f"estimate {model_id}")
            case StartLoad(model_id):
                self._start_load(self._models[model_id])
            case StopWorkers():
                self._stop_workers(self._models[action.model_id], action)
            case Removed(model_id):
                self._forget(self._models[model_id])

    def _grant(self, lease: Lease) -> None:
        """Its job may have ended between the decision and now; then its lease is given back."""
        job = self._jobs.get(lease)
        if job is None or not job.is_open:
            return
        model = self._models[lease.model_id]
        job.granted_at = self._clock.now()
        job.request.journal.granted()
        try:
            self._check_task(model, job.request.task)
        except NotServed as error:
            job.fail(error)
        else:
            if self._is_to_be_computed(model, job):
                model.replicas.submit(job)

    def _is_to_be_computed(self, model: _Model, job: Job) -> bool:
        """Or an equal job is already."""
        if job.key is None:
            return True
        leads = model.answers.leads(job)
        if not leads:
            job.request.journal.shared()
        self._events.answer_looked_up(model.spec.id, "miss" if leads else "shared")
        return leads

    def _refuse(self, lease: Lease, error: ErrorInfo) -> None:
        if (job := self._jobs.get(lease)) is not None:
            job.fail(_failure(error))

    def _start_load(self, model: _Model) -> None:
        model.load_started_at = self._clock.now()
        model.progress = None
        model.answers.clear()
        self._events.load_started(model.spec.id)
        model.start()

    def _stop_workers(self, model: _Model, action: StopWorkers) -> None:
        if action.is_loaded:
            logger.info("%s is unloaded (%s)", model.spec.id, action.reason)
            self._events.evicted(model.spec.id, action.reason)
            model.replicas.stop()
        else:
            model.replicas.kill()

    def _changed(self, model: _Model, state: State) -> None:
        """Tell those who wait for it, unless it is on its way somewhere else already."""
        model_id = model.spec.id
        self._stirred.add(model_id)
        error = self._residency.error(model_id)
        if state is State.READY:
            model.tell_end(msgspec.structs.replace(self._status(model), state=State.READY.value))
            return
        model.progress = None
        model.tell_rest()
        if state is State.FAILED and error is not None:
            logger.warning("%s", error.message if model_id in error.message else f"{model_id}: {error.message}")
            model.tell_end(_failure(error))
        elif self._residency.state(model_id) is State.UNLOADED:
            model.tell_end(Unavailable(f'"{model_id}" was unloaded before it was ready.', retry_after_s=_MIN_RETRY_S))

    def _on_alarm(self) -> None:
        self._perform(self._residency.tick(self._clock.now()))

    # What workers report

    def _on_ready(self, model: _Model, readies: list[Ready]) -> None:
        now = self._clock.now()
        model.readies = readies
        model.loaded_at = self._clock.unix_time()
        self._finish_load(model, "ready")
        for taken in {tuple(ready.memory): ready.memory for ready in readies}.values():
            self._spawn(self._memory.keep(model.replicas.spec, taken), f"keep the size of {model.spec.id}")
        self._perform(self._residency.ready(model.spec.id, _taken(model, readies), now))

    def _on_lost(self, model: _Model) -> None:
        self._perform(self._residency.lost(model.spec.id))

    def _on_failed(self, model: _Model, error: ErrorInfo) -> None:
        model.readies = []
        self._finish_load(model, "out_of_memory" if error.code == OutOfMemory.code else "failed")
        self._perform(self._residency.failed(model.spec.id, error, self._clock.now()))

    def _on_stopped(self, model: _Model) -> None:
        model.readies = []
        model.load_started_at = None
        self._perform(self._residency.stopped(model.spec.id, self._clock.now()))

    def _finish_load(self, model: _Model, outcome: str) -> None:
        """Of a load; replacing a worker is none."""
        if model.load_started_at is not None:
            seconds = self._clock.now() - model.load_started_at
            model.load_started_at = None
            if outcome == "ready":
                model.load_s = seconds
            self._events.load_finished(model.spec.id, seconds, outcome)

    # What is found out elsewhere

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._is_stopped:
            work.close()
            return
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed. This is a bug.", task.get_name(), exc_info=error)

    async def _measure(self) -> None:
        try:
            devices = await self._memory.devices()
        except Exception:  # a task's boundary: loads wait for an answer
            logger.exception("the devices cannot be measured: no limit is set on their memory")
            devices = Devices(budgets={})
        if self._devices is not None:
            self._devices.set_result(devices)
        self._perform(self._residency.set_budgets(devices.budgets, self._clock.now()))

    async def _estimate(self, model: _Model) -> None:
        if self._devices is None:
            raise RuntimeError("A model is to be loaded by a fleet that was not started. This is a bug.")
        version = model.version
        devices = await asyncio.shield(self._devices)
        places = devices.place(model.spec)
        try:
            needs = [await self._memory.estimate(model.spec, place) for place in places]
        except Exception:  # a task's boundary: the load waits for an answer
            logger.exception("the need of %s cannot be estimated", model.spec.id)
            needs = []
        if not self._is_still(model, version):
            return
        model.places = places
        need = _total([*(one or {} for one in needs), *(dict.fromkeys(place, 0) for place in places)])
        self._perform(self._residency.estimated(model.spec.id, need, self._clock.now()))

    def _is_still(self, model: _Model, version: int) -> bool:
        """Whether what was found out is about what the entry is now; else it is found out anew."""
        return self._models.get(model.spec.id) is model and model.version == version

    async def _resolve(self, model: _Model) -> None:
        version, asked = model.version, model.spec
        found: ModelSpec | ErrorInfo
        try:
            found = await self._resolved_spec(asked)
        except PipeserveError as error:
            found = ErrorInfo.of(error)
        except Exception:  # a task's boundary: requests wait for an answer
            logger.exception("%s cannot be resolved", asked.id)
            found = ErrorInfo(code=ModelFailed.code, message=f'What "{asked.id}" is cannot be found out.')
        if not self._is_still(model, version):
            return
        if isinstance(found, ErrorInfo):
            self._perform(self._residency.unresolvable(asked.id, found))
            return
        spec = with_changes(found, asked, model.spec)  # other adapters or aliases may have come meanwhile
        self._become(model, spec)
        self._perform(self._residency.resolved(spec, self._clock.now()))

    async def _resolved_spec(self, spec: ModelSpec) -> ModelSpec:
        """The entry with its tasks; one that had a problem is looked at anew. Raises PipeserveError."""
        spec = msgspec.structs.replace(spec, problem=None)
        if self._resolver is not None:
            spec = await self._resolver(spec)
        if spec.problem is not None:
            raise ModelFailed(spec.problem)
        if not spec.tasks:
            raise ModelFailed(f'The task of "{spec.id}" is not known; declare `task:` for it.')
        return spec


def _total(shares: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Bytes by device."""
    total: dict[str, int] = {}
    for share in shares:
        for device, num_bytes in share.items():
            total[device] = total.get(device, 0) + num_bytes
    return total


def _taken(model: _Model, readies: list[Ready]) -> dict[str, int]:
    """What all replicas take by device, those that do not answer yet like the largest of those that do."""
    own = tuple(readies[0].memory)
    places = model.places if own in model.places else [own] * len(model.places)  # or the worker found another device
    largest = [max(sizes) for sizes in zip(*(ready.memory.values() for ready in readies), strict=True)]
    return _total(dict(zip(place, largest, strict=True)) for place in places)


def _kept_result(kept: Kept) -> JobResult:
    """Nothing was waited for, and nothing computed."""
    return JobResult(
        outputs=kept.outputs,
        timings=Timings(queue_s=0.0, prepare_s=0.0, forward_s=0.0, finish_s=0.0),
        load_wait_s=0.0,
        total_s=0.0,
        batch_size=0,
        num_tokens=kept.num_tokens,
        is_kept=True,
    )


def _failure(error: ErrorInfo) -> PipeserveError:
    """A fresh exception for each who is told."""
    if error.code == NotAvailable.code:
        return NotAvailable(error.message)
    return ModelFailed(error.message)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
