"""One worker process, from its launch until it is reaped."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from app.catalog import AdapterSpec, ModelSpec
from app.channel.messages import (
    ARRIVAL,
    BatchDone,
    Cancel,
    Credit,
    Deltas,
    DropAdapter,
    EngineReport,
    ErrorInfo,
    FromWorker,
    Heartbeat,
    InputsDone,
    JobDone,
    JobFailed,
    Load,
    LoadFailed,
    Progress,
    Ready,
    SetThreads,
    StageBegan,
    Stop,
    Submit,
)
from app.errors import PipeserveError
from app.fleet.clock import Alarm, Clock
from app.fleet.jobs import Job
from app.fleet.memory import show_bytes
from app.fleet.processes import Launcher, WorkerProcess

logger = logging.getLogger(__name__)

_MAX_GRACE_S = 1.0
_OTHER_STAGES_FACTOR = 5.0
_CLOSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds without a sign of life, and in one stage. Stages but the forward get five times as long."""

    heartbeat_s: float = 10.0
    load_heartbeat_s: float = 60.0
    forward_s: float = 60.0
    stop_s: float = 10.0

    def stage_s(self, stage: str) -> float:
        return self.forward_s if stage == "forward" else self.forward_s * _OTHER_STAGES_FACTOR


@dataclass(frozen=True, kw_only=True)
class WorkerEnd:
    """How a worker ended. announced: the jobs of the stages that it was in, cancelled ones included."""

    reason: str  # "the process ...": the middle of a sentence
    load_error: ErrorInfo | None = None
    was_ready: bool = False
    had_answered: bool = False
    announced: frozenset[int] = frozenset()


class HandleOwner(Protocol):
    def on_progress(self, progress: Progress) -> None: ...

    def on_ready(self, handle: WorkerHandle, ready: Ready) -> None: ...

    def on_batch(self, batch: BatchDone) -> None: ...

    def on_inputs(self, job: Job, num_inputs: int) -> None:
        """So many more of its inputs have their answers, though it has not."""
        ...

    def on_engine(self, report: EngineReport) -> None: ...

    def on_answer(self, handle: WorkerHandle, job: Job, answer: JobDone | JobFailed) -> None:
        """The job is out of the handle's table already. Not called for cancelled ones."""
        ...

    def on_end(self, handle: WorkerHandle, end: WorkerEnd) -> None:
        """The process is reaped. The jobs that it had are still in `in_flight`."""
        ...


class WorkerHandle:
    """Owned by the event loop; its one task reads the worker's messages and ends with the process."""

    def __init__(
        self,
        spec: ModelSpec,
        launcher: Launcher,
        clock: Clock,
        limits: Limits,
        owner: HandleOwner,
        grant: Callable[[WorkerHandle], int],
    ) -> None:
        """grant: how many compute threads this worker may load with; asked when the process is there."""
        self.spec = spec
        self.in_flight: dict[int, Job] = {}
        self.num_items = 0  # of the jobs in flight: its outstanding work
        self.ready: Ready | None = None
        self._launcher = launcher
        self._clock = clock
        self._limits = limits
        self._owner = owner
        self._grant = grant
        self._alarm = Alarm(clock, self._check)
        self._process: WorkerProcess | None = None
        self._stages: dict[str, tuple[frozenset[int], float]] = {}  # announced jobs, and since when
        self._heard_at = 0.0
        self._missed: float | None = None  # a due time that passed a moment ago
        self._last_chance = 0.0
        self._stop_due: float | None = None
        self._kill_reason: str | None = None
        self._retired_for: str | None = None  # it takes no more jobs, and ends after those that it has
        self._blamed: frozenset[int] | None = None
        self._load_error: ErrorInfo | None = None
        self._has_answered = False
        self._granted_threads = self._told_threads = 0
        self._task: asyncio.Task[None] | None = None

    # What the owner asks

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"worker of {self.spec.id}")

    @property
    def is_ready(self) -> bool:
        is_leaving = self._kill_reason is not None or self._stop_due is not None or self._retired_for is not None
        return self.ready is not None and not is_leaving

    @property
    def computing(self) -> frozenset[int]:
        """Jobs of which something is in the forward or has been through it."""
        stages = (self._stages[stage][0] for stage in ("forward", "finish") if stage in self._stages)
        return frozenset().union(*stages)

    @property
    def fixed_threads(self) -> int | None:
        """What the entry declares; where an accelerator computes, one thread feeds it."""
        if self.spec.threads is None and self.ready is not None and "cpu" not in self.ready.memory:
            return 1
        return self.spec.threads

    def submit(self, job: Job, *, alone: bool) -> None:
        """Raises InvalidInput for values that the channel cannot carry."""
        if self._process is None:
            raise RuntimeError(f"A job was submitted to a worker of {self.spec.id} without a process. This is a bug.")
        request = job.request
        # One that has not answered yet may end of itself. What is alone is a suspect, and announced to the moment.
        has_begun = self._has_answered and not (alone or self.in_flight or self._stages)
        message = Submit(
            job_id=job.job_id,
            task=request.task,
            inputs=request.inputs,
            parameters=request.parameters,
            media_type=request.media_type,
            is_stream=job.stream is not None,
            alone=alone,
            has_begun=has_begun,
            adapter=request.adapter,
            flow=request.flow,
            weight=request.flow_weight,
            time_left_s=job.due_at - self._clock.now(),
            request_id=request.request_id,
            is_traced=request.journal.is_kept,
        )
        self._process.connection.send(message)
        if has_begun:
            self._stage_began(ARRIVAL, [job.job_id])
        self.in_flight[job.job_id] = job
        self.num_items += job.num_items
        if job.stream is not None:
            job.stream.on_taken = lambda num_parts: self._credit(job, num_parts)

    def _credit(self, job: Job, num_parts: int) -> None:
        if job.job_id in self.in_flight and self._process is not None:
            self._process.connection.send(Credit(job_id=job.job_id, num_parts=num_parts))

    def cancel(self, job: Job) -> bool:
        """Nobody waits for it. Returns whether it was here."""
        if self._take_out(job.job_id) is None:
            return False
        if self._process is not None:
            self._process.connection.send(Cancel(job_id=job.job_id))
        self._stop_if_retired()
        return True

    def _take_out(self, job_id: int) -> Job | None:
        job = self.in_flight.pop(job_id, None)
        if job is not None:
            self.num_items -= job.num_items
        return job

    def set_threads(self, num_threads: int) -> None:
        """A worker that loads is told when it is ready."""
        self._granted_threads = num_threads
        if self._process is not None and self.ready is not None and num_threads != self._told_threads:
            self._told_threads = num_threads
            self._process.connection.send(SetThreads(num_threads=num_threads))

    def drop_adapter(self, adapter: AdapterSpec) -> None:
        if self._process is not None:
            self._process.connection.send(DropAdapter(adapter=adapter))

    def stop(self) -> None:
        """Let it end by itself, if it can; `on_end` follows."""
        if self._process is None or self.ready is None:
            self.kill("the process was stopped while it was loading")
        elif self._stop_due is None:
            self._process.connection.send(Stop())
            self._stop_due = self._clock.now() + self._limits.stop_s
            self._alarm.set(self._stop_due)

    def _retire(self, reason: str) -> None:
        """Have it end after the jobs that it has; what else comes waits for the next one, or goes to others."""
        logger.warning("%s: %s; it is replaced once it has answered what it has", self.spec.id, reason)
        self._retired_for = reason
        self._stop_if_retired()

    def _stop_if_retired(self) -> None:
        if self._retired_for is not None and not self.in_flight:
            self.stop()

    def kill(self, reason: str) -> None:
        """End it now; `on_end` follows."""
        if self._kill_reason is None:
            self._kill_reason = reason
        if self._process is not None:
            self._process.kill()

    async def wait(self) -> None:
        """Until it is reaped and `on_end` has been called."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # The process

    async def _run(self) -> None:
        try:
            end = await self._live()
        except Exception as error:  # the task's boundary: the owner must hear of the end
            logger.exception("the handle of a worker of %s broke. This is a bug.", self.spec.id)
            end = self._end(f"the process could not be followed: {error}")
        self._alarm.cancel()
        self._owner.on_end(self, end)

    async def _live(self) -> WorkerEnd:
        try:
            process = await self._launcher.launch(self.spec)
        except (PipeserveError, OSError) as error:
            return self._end(str(error))
        self._process = process
        exited = asyncio.create_task(process.wait(), name=f"end of worker {process.pid}")
        exited.add_done_callback(lambda _: self._close_soon(process))
        try:
            if self._kill_reason is None:
                self._load(process)
                async for message in process.connection.receive():
                    self._on_message(message)
        finally:
            process.kill()
            process.connection.close()
        exit_code = await exited
        retired_for = self._retired_for if exit_code == 0 else None
        return self._end(self._kill_reason or retired_for or describe_exit(exit_code))

    def _load(self, process: WorkerProcess) -> None:
        self._granted_threads = self._told_threads = self._grant(self)
        process.connection.send(Load(spec=msgspec.to_builtins(self.spec), num_threads=self._told_threads))
        self._heard_at = self._clock.now()
        self._watch()

    def _close_soon(self, process: WorkerProcess) -> None:
        """A child of the dead worker may keep its socket open: the end is not waited for any longer than a moment."""
        self._clock.call_at(self._clock.now() + _CLOSE_S, process.connection.close)

    def _end(self, reason: str) -> WorkerEnd:
        announced = frozenset[int]().union(*(ids for ids, _ in self._stages.values()))
        return WorkerEnd(
            reason=reason,
            load_error=self._load_error,
            was_ready=self.ready is not None,
            had_answered=self._has_answered,
            announced=announced if self._blamed is None else self._blamed,
        )

    # Its messages

    def _on_message(self, message: FromWorker) -> None:
        match message:
            case JobDone() | JobFailed():
                self._has_answered = True
                job = self._take_out(message.job_id)
                if job is not None:
                    self._owner.on_answer(self, job, message)
                    self._stop_if_retired()
            case StageBegan():
                self._stage_began(message.stage, message.job_ids)
            case Heartbeat():
                self._heard()
                self._weigh(message.rss_bytes)
            case Deltas():
                self._on_deltas(message)
            case BatchDone():
                self._owner.on_batch(message)
                if message.traced:
                    self._tell_journals(message)
            case InputsDone():
                self._on_inputs(message)
            case EngineReport():
                self._owner.on_engine(message)
            case Progress():
                self._heard()
                self._owner.on_progress(message)
            case Ready():
                self._heard()
                self.ready = message
                self.set_threads(self._granted_threads)
                self._watch()
                self._owner.on_ready(self, message)
            case LoadFailed():
                self._load_error = message.error
                self.kill("the process could not load the model")

    def _tell_journals(self, batch: BatchDone) -> None:
        journals = [self.in_flight[job_id].request.journal for job_id in batch.traced if job_id in self.in_flight]
        if journals:
            journals[0].forwarded(batch, journals)

    def _on_inputs(self, message: InputsDone) -> None:
        for job_id, num_inputs in message.num_inputs.items():
            job = self.in_flight.get(job_id)
            if job is not None:
                self._owner.on_inputs(job, num_inputs)

    def _on_deltas(self, message: Deltas) -> None:
        self._has_answered = True
        for part in message.parts:
            job = self.in_flight.get(part.job_id)
            if job is not None and job.stream is not None:
                job.stream.put(part.delta)

    def _weigh(self, rss_bytes: int) -> None:
        limit = self.spec.memory_limit_bytes
        if limit is not None and rss_bytes > limit and self.is_ready:
            self._retire(
                f"the process had grown to {show_bytes(rss_bytes)}, beyond its memory_limit of {show_bytes(limit)}"
            )

    def _heard(self) -> None:
        self._heard_at = self._clock.now()

    def _stage_began(self, stage: str, job_ids: list[int]) -> None:
        if job_ids:
            now, limit_s = self._clock.now(), self._limits.stage_s(stage)
            self._stages[stage] = (frozenset(job_ids), now)
            self._alarm.set(now + limit_s - _grace_s(limit_s))  # all else that is due has set it before
        else:
            self._stages.pop(stage, None)

    # Its limits

    def _watch(self) -> None:
        self._alarm.set(min(due for due, _, _ in self._dues()))

    def _dues(self) -> list[tuple[float, str, frozenset[int] | None]]:
        """When to look again, why it would be killed, and whose fault that would be (None: all that was announced).

        A moment before the limit: a sign of life may be in the socket, unread because this process itself stood still.
        """
        limit_s = self._limits.heartbeat_s if self.ready is not None else self._limits.load_heartbeat_s
        silent = f"the process gave no sign of life for {limit_s:g} s and was killed"
        dues: list[tuple[float, str, frozenset[int] | None]] = [
            (self._heard_at + limit_s - _grace_s(limit_s), silent, None)
        ]
        for stage, (job_ids, began_at) in self._stages.items():
            stage_s = self._limits.stage_s(stage)
            hanging = f"the process was in one {stage} for {stage_s:g} s and was killed"
            dues.append((began_at + stage_s - _grace_s(stage_s), hanging, job_ids))
        if self._stop_due is not None:
            dues.append((self._stop_due, "the process did not stop and was killed", frozenset()))
        return dues

    def _check(self) -> None:
        now = self._clock.now()
        due, reason, blamed = min(self._dues(), key=lambda entry: entry[0])
        if now < due:
            self._alarm.set(due)
        elif due != self._missed:
            self._missed = due
            self._last_chance = now + _grace_s(self._limits.heartbeat_s)
            self._alarm.set(self._last_chance)
        elif now < self._last_chance:
            self._alarm.set(self._last_chance)
        else:
            logger.warning("%s: %s", self.spec.id, reason)
            self._blamed = blamed
            self.kill(reason)


def _grace_s(limit_s: float) -> float:
    return min(_MAX_GRACE_S, limit_s / 10)


def describe_exit(exit_code: int) -> str:
    if exit_code >= 0:
        return f"the process ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"the process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
