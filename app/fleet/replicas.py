"""The workers of one model: which job goes to which, and what happens when one of them dies.

A worker's death makes suspects of the jobs whose stages it had announced. They run again on its replacement one by
one, with nothing else in that worker; everything else goes back to where it waited. docs/adr/0003-suspects.md.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.catalog import AdapterSpec, ModelSpec
from app.channel.messages import BatchDone, EngineReport, ErrorInfo, JobDone, JobFailed, Progress, Ready
from app.errors import DeadlineExceeded, ModelFailed, PipeserveError, WorkerLost
from app.fleet.clock import Clock, Timer
from app.fleet.handle import HandleOwner, Limits, WorkerEnd, WorkerHandle
from app.fleet.jobs import Job
from app.fleet.memory import placed
from app.fleet.processes import Launcher
from app.fleet.threads import Threads

logger = logging.getLogger(__name__)

_MAX_ALONE_DEATHS = 2
_MAX_FAILURES = 3
_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 30.0


class ReplicasOwner(Protocol):
    """Called on the event loop."""

    def on_progress(self, progress: Progress) -> None: ...

    def on_ready(self, readies: list[Ready]) -> None:
        """One more worker answers: what each of those that answer said of itself."""
        ...

    def on_lost(self) -> None:
        """No worker answers any more; a replacement is on its way."""
        ...

    def on_failed(self, error: ErrorInfo) -> None:
        """No worker can be had. All processes are reaped; jobs that were here are open still, and nowhere."""
        ...

    def on_stopped(self) -> None:
        """After `stop`: all processes are reaped."""
        ...

    def on_batch(self, batch: BatchDone) -> None: ...

    def on_inputs(self, job: Job, num_inputs: int) -> None: ...

    def on_engine(self, report: EngineReport) -> None: ...

    def on_restart(self) -> None: ...


@dataclass(eq=False, slots=True)
class _Slot:
    """The place of one worker, and of those that replace it."""

    devices: tuple[str, ...]
    handle: WorkerHandle | None = None
    suspects: deque[Job] = field(default_factory=deque)
    exclusive: Job | None = None  # the suspect that has the worker for itself
    num_failures: int = 0  # deaths before the first answer, in a row
    restart: Timer | None = None
    error: ErrorInfo | None = None  # why it was given up

    @property
    def is_alive(self) -> bool:
        return self.handle is not None or self.restart is not None

    @property
    def is_ready(self) -> bool:
        return self.handle is not None and self.handle.is_ready

    @property
    def takes_jobs(self) -> bool:
        return self.is_ready and not self.suspects and self.exclusive is None


class Replicas(HandleOwner):
    """Owned by the event loop. Between `start` and the answer to `stop`, or `on_failed`, it keeps workers running."""

    def __init__(
        self,
        spec: ModelSpec,
        launcher: Launcher,
        clock: Clock,
        limits: Limits,
        threads: Threads,
        owner: ReplicasOwner,
    ) -> None:
        self.spec = spec  # of the workers that are started from now on
        self.version = 0  # of it, for the owner
        self._launcher = launcher
        self._clock = clock
        self._limits = limits
        self._threads = threads
        self._owner = owner
        self._slots: list[_Slot] = []
        self._pending: deque[Job] = deque()
        self._is_stopping = False
        self._was_ready = False  # `on_ready` was the last that the owner heard

    # What the owner asks

    def start(self, places: Sequence[tuple[str, ...]]) -> None:
        """Launch a worker on the devices of each place. Jobs that are here already wait for them."""
        if self.is_alive:
            raise RuntimeError(f"{self.spec.id} was started twice. This is a bug.")
        self._is_stopping = False
        self._slots = [_Slot(devices) for devices in places]
        for slot in self._slots:
            self._launch(slot)

    def submit(self, job: Job) -> None:
        self._pending.append(job)
        self._dispatch()

    def withdraw(self, job: Job) -> None:
        """Nobody waits for it any more. Harmless when it is answered."""
        for slot in self._slots:
            if slot.handle is not None and slot.handle.cancel(job):
                self._left(slot, job)
                self._dispatch()
                return
            if job in slot.suspects:
                slot.suspects.remove(job)
                self._dispatch()
                return
        if job in self._pending:
            self._pending.remove(job)

    def drop_adapter(self, adapter: AdapterSpec) -> None:
        for handle in self._handles():
            handle.drop_adapter(adapter)

    def stop(self) -> None:
        """Have the workers end; `on_stopped` follows, at once if there are none."""
        self._end_all(lambda handle: handle.stop())

    def kill(self) -> None:
        """End the workers now; `on_stopped` follows."""
        self._end_all(lambda handle: handle.kill("the process was stopped"))

    async def wait(self) -> None:
        """Until all workers are reaped."""
        for handle in self._handles():
            await handle.wait()

    @property
    def is_alive(self) -> bool:
        """Whether there are processes, or will be."""
        return any(slot.is_alive for slot in self._slots)

    @property
    def num_ready(self) -> int:
        return sum(1 for slot in self._slots if slot.is_ready)

    def queued_items(self) -> int:
        """Items of jobs that no forward has begun with."""
        waiting = sum(job.num_items for job in self._pending)
        waiting += sum(job.num_items for slot in self._slots for job in slot.suspects)
        for handle in self._handles():
            computing = handle.computing
            waiting += sum(job.num_items for job_id, job in handle.in_flight.items() if job_id not in computing)
        return waiting

    def is_computing(self, job: Job) -> bool:
        """Whether something of it is in a forward or has been through it."""
        return any(job.job_id in handle.computing for handle in self._handles())

    def _handles(self) -> list[WorkerHandle]:
        return [slot.handle for slot in self._slots if slot.handle is not None]

    def _slot_of(self, handle: WorkerHandle) -> _Slot:
        return next(slot for slot in self._slots if slot.handle is handle)

    # Processes

    def _launch(self, slot: _Slot) -> None:
        slot.restart = None
        slot.handle = WorkerHandle(
            placed(self.spec, slot.devices),
            self._launcher,
            self._clock,
            self._limits,
            self,
            grant=self._threads.begin,
        )
        slot.handle.start()

    def _end_all(self, end: Callable[[WorkerHandle], None]) -> None:
        self._is_stopping = True
        for slot in self._slots:
            if slot.restart is not None:
                slot.restart.cancel()
                slot.restart = None
        for handle in self._handles():
            end(handle)
        if not self.is_alive:
            self._all_ended()

    def _all_ended(self) -> None:
        """Nothing is alive, and nothing will be by itself."""
        self._pending = deque(self._open_jobs())
        errors = [slot.error for slot in self._slots if slot.error is not None]
        self._slots = []
        self._was_ready = False
        if self._is_stopping:
            self._owner.on_stopped()
        else:
            self._owner.on_failed(errors[0])

    def _open_jobs(self) -> list[Job]:
        """In the order they came."""
        suspects = [job for slot in self._slots for job in slot.suspects]
        return [job for job in (*suspects, *self._pending) if job.is_open]

    # What handles report

    def on_progress(self, progress: Progress) -> None:
        self._owner.on_progress(progress)

    def on_batch(self, batch: BatchDone) -> None:
        self._owner.on_batch(batch)

    def on_inputs(self, job: Job, num_inputs: int) -> None:
        self._owner.on_inputs(job, num_inputs)

    def on_engine(self, report: EngineReport) -> None:
        self._owner.on_engine(report)

    def on_ready(self, handle: WorkerHandle, ready: Ready) -> None:
        self._threads.end(handle)
        if self._is_stopping:
            return
        self._was_ready = True
        self._owner.on_ready([one.ready for one in self._handles() if one.ready is not None])
        self._dispatch()

    def on_answer(self, handle: WorkerHandle, job: Job, answer: JobDone | JobFailed) -> None:
        slot = self._slot_of(handle)
        slot.num_failures = 0
        self._left(slot, job)
        job.request.journal.computed(answer.stages)
        if isinstance(answer, JobDone):
            job.finish(answer)
        else:
            job.fail(answer.error)
        self._dispatch()

    def on_end(self, handle: WorkerHandle, end: WorkerEnd) -> None:
        self._threads.leave(handle)
        slot = self._slot_of(handle)
        slot.handle = None
        self._take_back(slot, list(handle.in_flight.values()), end)
        if self._is_stopping:
            if not self.is_alive:
                self._all_ended()
            return
        self._replace(slot, end)
        if not self.is_alive:
            self._all_ended()
            return
        if self._was_ready and self.num_ready == 0:
            self._was_ready = False
            self._owner.on_lost()
        self._dispatch()

    def _replace(self, slot: _Slot, end: WorkerEnd) -> None:
        """At once if it had answered or a job is to blame; else later and later, and not for ever."""
        logger.warning("a worker of %s ended: %s", self.spec.id, end.reason)
        if end.load_error is not None:
            self._abandon(slot, end.load_error)
            return
        delay_s = 0.0
        if end.had_answered:
            slot.num_failures = 0
        elif not (end.was_ready and end.announced):
            slot.num_failures += 1
            if slot.num_failures >= _MAX_FAILURES:
                self._abandon(slot, self._cannot_start(end))
                return
            delay_s = min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** (slot.num_failures - 1))
        self._owner.on_restart()
        if delay_s:
            slot.restart = self._clock.call_at(self._clock.now() + delay_s, lambda: self._launch(slot))
        else:
            self._launch(slot)

    def _abandon(self, slot: _Slot, error: ErrorInfo) -> None:
        """The others, if there are any, have its jobs too."""
        slot.error = error
        self._pending.extendleft(reversed(slot.suspects))
        slot.suspects.clear()

    def _cannot_start(self, end: WorkerEnd) -> ErrorInfo:
        return ErrorInfo(
            code=ModelFailed.code,
            message=f'"{self.spec.id}" cannot start: {_MAX_FAILURES} times in a row its worker ended before it had'
            f" answered; the last time {end.reason}.",
        )

    # Jobs

    def _take_back(self, slot: _Slot, jobs: Iterable[Job], end: WorkerEnd) -> None:
        suspects: list[Job] = []
        others: list[Job] = []
        for job in jobs:
            job.request.journal.returned(end.reason)
            if job.is_open and job.has_streamed:
                job.fail(WorkerLost(f'The worker of "{self.spec.id}" ended in the midst of this stream: {end.reason}.'))
            elif job.is_open:
                (suspects if job.job_id in end.announced or job is slot.exclusive else others).append(job)
        if slot.exclusive is not None and end.announced == {slot.exclusive.job_id}:
            self._blame(slot.exclusive, end, suspects)
        slot.exclusive = None
        slot.suspects.extendleft(reversed(suspects))
        self._pending.extendleft(reversed(others))

    def _blame(self, job: Job, end: WorkerEnd, suspects: list[Job]) -> None:
        job.alone_deaths += 1
        if job.alone_deaths >= _MAX_ALONE_DEATHS and job in suspects:
            suspects.remove(job)
            job.fail(
                WorkerLost(f'This request ends the worker of "{self.spec.id}" even when it runs alone: {end.reason}.')
            )

    def _left(self, slot: _Slot, job: Job) -> None:
        """The job is out of the slot's worker."""
        if slot.exclusive is job:
            slot.exclusive = None
        if slot.handle is not None and not slot.handle.in_flight:
            self._threads.end(slot.handle)

    def _dispatch(self) -> None:
        for slot in self._slots:
            while slot.is_ready and slot.suspects and slot.exclusive is None and not self._in_flight(slot):
                slot.exclusive = slot.suspects.popleft()
                self._send(slot, slot.exclusive, alone=True)
        while self._pending:
            ready = [slot for slot in self._slots if slot.takes_jobs]
            if not ready:
                return
            self._send(min(ready, key=_outstanding), self._pending.popleft(), alone=False)

    def _in_flight(self, slot: _Slot) -> bool:
        return slot.handle is not None and bool(slot.handle.in_flight)

    def _send(self, slot: _Slot, job: Job, *, alone: bool) -> None:
        handle = slot.handle
        assert handle is not None, "A job was sent to a slot without a worker. This is a bug."
        if job.is_open and self._clock.now() >= job.due_at:
            job.fail(DeadlineExceeded(f'"{self.spec.id}" could not begin with it before its deadline.'))
        if not job.is_open:
            self._left(slot, job)
            return
        if not handle.in_flight:
            self._threads.begin(handle)
        job.sent_at = self._clock.now()
        job.request.journal.sent(alone=alone)
        try:
            handle.submit(job, alone=alone)
        except PipeserveError as error:
            job.fail(error)
            self._left(slot, job)


def _outstanding(slot: _Slot) -> int:
    return slot.handle.num_items if slot.handle is not None else 0
