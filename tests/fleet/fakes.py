"""A clock that tests move, and workers that are scripts: the seams that a fleet stands on."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.catalog import Catalog, ModelSpec
from app.channel.messages import (
    ARRIVAL,
    BatchDone,
    Cancel,
    EngineReport,
    ErrorInfo,
    FromWorker,
    Heartbeat,
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
    Timings,
    ToWorker,
)
from app.errors import PipeserveError
from app.fleet.fleet import Fleet, Resolver
from app.fleet.memory import Devices
from app.fleet.processes import Connection, WorkerProcess
from app.fleet.requests import JobRequest, JobResult, Reloaded
from app.settings import Settings

TASK = "text-classification"
_TURNS = 40


async def settle() -> None:
    """Let every task run until it waits for something that only a test or time brings."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


@dataclass(order=True)
class FakeTimer:
    when: float
    number: int
    callback: Callable[[], None] = field(compare=False)
    is_cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._numbers = itertools.count()
        self._timers: list[FakeTimer] = []

    def now(self) -> float:
        return self._now

    def unix_time(self) -> float:
        return 1_700_000_000.0 + self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(when, next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        return timer

    async def advance(self, seconds: float, every: Callable[[], None] = lambda: None) -> None:
        """Ring what is due on the way, in order. every: called each second (workers send their heartbeats)."""
        await settle()
        end = self._now + seconds
        next_beat = self._now + 1.0
        while True:
            while self._timers and self._timers[0].is_cancelled:
                heapq.heappop(self._timers)
            due = self._timers[0].when if self._timers else float("inf")
            if min(due, next_beat) > end:
                break
            if next_beat < due:
                self._now = next_beat
                next_beat += 1.0
                every()
            else:
                timer = heapq.heappop(self._timers)
                self._now = max(self._now, timer.when)
                timer.callback()
            await settle()
        self._now = end
        await settle()


class FakeConnection:
    def __init__(self, worker: FakeWorker) -> None:
        self._worker = worker
        self._messages: asyncio.Queue[FromWorker | None] = asyncio.Queue()
        self.is_closed = False

    def send(self, message: ToWorker) -> None:
        if not self.is_closed:
            self._worker.hear(message)

    async def receive(self) -> AsyncIterator[FromWorker]:
        while (message := await self._messages.get()) is not None:
            yield message

    def close(self) -> None:
        self.is_closed = True
        self._messages.put_nowait(None)

    def deliver(self, message: FromWorker | None) -> None:
        self._messages.put_nowait(message)


class FakeWorker:
    """A worker process whose every step a test decides, or its launcher's script.

    Its jobs are in `jobs`; `announced` is what it has said that it is at.
    """

    def __init__(self, pid: int, spec: ModelSpec, launcher: FakeLauncher) -> None:
        self.pid = pid
        self.spec = spec
        self.received: list[ToWorker] = []
        self.jobs: dict[int, Submit] = {}
        self.cancelled: list[int] = []
        self.threads: list[int] = []
        self.is_ready = False
        self.is_alive = True
        self.is_reaped = False
        self.is_hung = False  # no heartbeats, deaf
        self.reaps_slowly = False
        self.announced: dict[str, list[int]] = {}
        self._launcher = launcher
        self._conn = FakeConnection(self)
        self.connection: Connection = self._conn
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._exit_code = 0

    # The seam

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    def kill(self) -> None:
        self.die(-9)

    def hear(self, message: ToWorker) -> None:
        self.received.append(message)
        match message:
            case Load():
                self.threads.append(message.num_threads)
                self._launcher.on_load(self)
            case Submit():
                self.jobs[message.job_id] = message
                if message.has_begun and not self.is_hung:
                    self.say(StageBegan(stage=ARRIVAL, job_ids=[]))  # it begins when the test says so
                self._launcher.on_submit(self, message)
            case Cancel():
                self.jobs.pop(message.job_id, None)
                self.cancelled.append(message.job_id)
            case SetThreads():
                self.threads.append(message.num_threads)
            case Stop():
                if not self.is_hung:
                    self.die(0)

    # What a test has it do

    def say(self, message: FromWorker) -> None:
        if self.is_alive:
            self._conn.deliver(message)

    def beat(self) -> None:
        if not self.is_hung:
            self.say(Heartbeat(rss_bytes=1))

    def be_ready(self, memory_bytes: int | None = None, device: str | None = None) -> None:
        """On the devices that its entry names, the bytes on each."""
        num_bytes = self._launcher.size_of(self.spec) if memory_bytes is None else memory_bytes
        devices = (device,) if device is not None else self.spec.devices or (self.spec.device or "cpu",)
        memory = dict.fromkeys(devices, num_bytes)
        self.is_ready = True
        self.say(Progress(phase="load"))
        self.say(
            Ready(
                memory=memory,
                dtype="float32",
                num_parameters=7,
                load_s=0.5,
                tasks=list(self.spec.tasks),
            )
        )

    def fail_load(self, code: str, message: str = "its weights are broken") -> None:
        self.say(LoadFailed(error=ErrorInfo(code=code, message=message)))
        self.die(1)

    def begin(self, *job_ids: int, stage: str = "forward") -> None:
        self.announced[stage] = list(job_ids)
        self.say(StageBegan(stage=stage, job_ids=list(job_ids)))

    def answer(self, *job_ids: int, wait_s: float = 0.0) -> None:
        """All of its jobs, if none are named. wait_s: that they say they have waited."""
        for job_id in job_ids or list(self.jobs):
            submit = self.jobs.pop(job_id)
            self._launcher.num_answers += 1
            timings = Timings(queue_s=0.25, prepare_s=0.01, forward_s=0.02, finish_s=0.03)
            outputs = [f'"{self.spec.id} {one}"'.encode() for one in submit.inputs]
            self.say(
                JobDone(job_id=job_id, outputs=outputs, timings=timings, batch_size=1, num_tokens=3, wait_s=wait_s)
            )

    def refuse(self, job_id: int, code: str = "validation") -> None:
        del self.jobs[job_id]
        self.say(JobFailed(job_id=job_id, error=ErrorInfo(code=code, message="no", param="inputs[0]")))

    def batch(self) -> None:
        self.say(BatchDone(task=TASK, num_items=1, tokens=3, padded_tokens=4, forward_s=0.02))

    def die(self, exit_code: int) -> None:
        if self.is_alive:
            self.is_alive = False
            self._exit_code = exit_code
            self._conn.deliver(None)
            if not self.reaps_slowly:
                self.reap()

    def reap(self) -> None:
        """Its bytes are back."""
        if not self.is_alive and not self.is_reaped:
            self.is_reaped = True
            self._exit.set_result(self._exit_code)


class FakeLauncher:
    """Workers do nothing by themselves unless `loads` and `answers` say so.

    sizes: what a worker of each model measures. on_worker: a look at each before its Load.
    """

    def __init__(self, sizes: Mapping[str, int] | None = None, *, loads: bool = True, answers: bool = False) -> None:
        self.workers: list[FakeWorker] = []
        self.sizes = dict(sizes or {})
        self.loads = loads
        self.answers = answers
        self.on_worker: Callable[[FakeWorker], None] = lambda worker: None
        self.errors: list[PipeserveError] = []
        self.num_answers = 0
        self.is_started = self.is_stopped = False

    async def start(self) -> None:
        self.is_started = True

    async def launch(self, spec: ModelSpec) -> WorkerProcess:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        worker = FakeWorker(len(self.workers) + 1, spec, self)
        self.workers.append(worker)
        self.on_worker(worker)
        return worker

    async def stop(self) -> None:
        self.is_stopped = True
        for worker in self.workers:
            worker.kill()

    def size_of(self, spec: ModelSpec) -> int:
        return self.sizes.get(spec.id, 1)

    def on_load(self, worker: FakeWorker) -> None:
        if self.loads and worker.is_alive:
            worker.be_ready()

    def on_submit(self, worker: FakeWorker, submit: Submit) -> None:
        if self.answers and worker.is_alive:
            worker.answer(submit.job_id)

    @property
    def alive(self) -> list[FakeWorker]:
        return [worker for worker in self.workers if worker.is_alive]

    def of(self, model_id: str) -> FakeWorker:
        """The living worker of a model that has one."""
        (worker,) = [worker for worker in self.alive if worker.spec.id == model_id]
        return worker

    def has(self, model_id: str) -> bool:
        return any(worker.spec.id == model_id for worker in self.alive)

    def beat(self) -> None:
        for worker in self.alive:
            worker.beat()


class FakeMemory:
    """Estimates are what the launcher's workers will measure, unless `estimates` says otherwise (None: unknown)."""

    def __init__(self, launcher: FakeLauncher, budgets: Mapping[str, int | None]) -> None:
        self._launcher = launcher
        self._budgets = budgets
        self.estimates: dict[str, int | None] = {}
        self.kept: dict[str, int] = {}

    async def devices(self) -> Devices:
        return Devices(budgets=self._budgets, accelerators=tuple(name for name in self._budgets if name != "cpu"))

    def share_out_anew(self, budget: Mapping[str, int | float]) -> Mapping[str, int | None]:
        return {**self._budgets, **{device: int(limit) for device, limit in budget.items()}}

    async def estimate(self, spec: ModelSpec, devices: tuple[str, ...]) -> dict[str, int] | None:
        """As much on each device."""
        each = self.estimates.get(spec.id, self._launcher.size_of(spec))
        return None if each is None else dict.fromkeys(devices, each)

    async def keep(self, spec: ModelSpec, taken: Mapping[str, int]) -> None:
        self.kept[spec.id] = sum(taken.values())


class RecordedEvents:
    """What the fleet told, as tuples."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []
        self._changed = asyncio.Event()

    async def more_of(self, kind: str, number: int) -> None:
        """Wait until there are so many more."""
        wanted = len(self.of(kind)) + number
        while len(self.of(kind)) < wanted:
            self._changed.clear()
            await self._changed.wait()

    def _add(self, *event: Any) -> None:
        self.all.append(event)
        self._changed.set()

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.all if event[0] == kind]

    def declare(self, models: Iterable[ModelSpec]) -> None:
        for spec in models:
            self._add("declared", spec.id)

    def forget(self, model: str) -> None:
        self._add("forgotten", model)

    def load_started(self, model: str) -> None:
        self._add("load_started", model)

    def load_finished(self, model: str, seconds: float, outcome: str) -> None:
        self._add("load_finished", model, outcome)

    def evicted(self, model: str, reason: str) -> None:
        self._add("evicted", model, reason)

    def restarted(self, model: str) -> None:
        self._add("restarted", model)

    def rejected(self, model: str, reason: str) -> None:
        self._add("rejected", model, reason)

    def shed(self, model: str) -> None:
        self._add("shed", model)

    def answer_looked_up(self, model: str, outcome: str) -> None:
        self._add("answer_looked_up", model, outcome)

    def batch_done(self, model: str, batch: BatchDone) -> None:
        self._add("batch_done", model, batch.num_items)

    def engine_reported(self, model: str, report: EngineReport) -> None:
        self._add("engine_reported", model)

    def job_done(self, model: str, task: str, result: JobResult) -> None:
        self._add("job_done", model, task)

    def job_failed(self, model: str, task: str, code: str) -> None:
        self._add("job_failed", model, task, code)


def spec_of(model_id: str, **changes: Any) -> ModelSpec:
    return ModelSpec(**{"id": model_id, "model": model_id, "tasks": (TASK,), **changes})


class House:
    """A fleet on fakes. Calls are tasks: `ask` begins one, its answer is looked at later."""

    def __init__(
        self,
        *specs: ModelSpec,
        sizes: Mapping[str, int] | None = None,
        budget: int | None = None,
        devices: Sequence[str] = ("cpu",),
        loads: bool = True,
        answers: bool = False,
        resolver: Resolver | None = None,
        max_queue_items: int | None = None,
        cores: int = 9,
        settings: Settings | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.launcher = FakeLauncher(sizes, loads=loads, answers=answers)
        self.memory = FakeMemory(self.launcher, dict.fromkeys(devices, budget))
        self.events = RecordedEvents()
        self.fleet = Fleet(
            Catalog(models=specs or (spec_of("a"),), max_queue_items=max_queue_items),
            settings if settings is not None else Settings(),
            self.launcher,
            events=self.events,
            clock=self.clock,
            resolver=resolver,
            memory=self.memory,
            cores=cores,
        )
        self.calls: list[asyncio.Task[JobResult]] = []

    async def __aenter__(self) -> House:
        await self.fleet.start()
        await settle()
        return self

    async def __aexit__(self, *error: object) -> None:
        for worker in self.launcher.workers:
            worker.reaps_slowly = False
            worker.reap()
        await self.fleet.stop()
        await asyncio.gather(*self.calls, return_exceptions=True)
        assert self.launcher.alive == []

    async def ask(
        self, model_id: str = "a", *, inputs: Sequence[Any] = ("x",), **changes: Any
    ) -> asyncio.Task[JobResult]:
        """A request on its way; everything that can happen without time or a worker's doing has happened."""
        request = JobRequest(
            **{
                "model_id": model_id,
                "task": TASK,
                "inputs": list(inputs),
                "parameters": {},
                "num_items": len(inputs),
                **changes,
            }
        )
        call = asyncio.create_task(self.fleet.submit(request))
        self.calls.append(call)
        await settle()
        return call

    async def answered(self, model_id: str = "a", **changes: Any) -> JobResult:
        """Ask, have the worker answer, and give the answer."""
        call = await self.ask(model_id, **changes)
        if not call.done():
            self.launcher.of(model_id).answer()
        return await call

    async def reload(self, *specs: ModelSpec, **catalog: Any) -> Reloaded:
        """These are declared from now on; what follows from it without time or a worker's doing has happened."""
        reloaded = self.fleet.reload(Catalog(models=specs, **catalog))
        await settle()
        return reloaded

    async def advance(self, seconds: float) -> None:
        """Time passes; living workers send their heartbeats."""
        await self.clock.advance(seconds, self.launcher.beat)

    def state(self, model_id: str = "a") -> str:
        return self.fleet.status(model_id).state
