"""The worker's threads that compute: one each for prepare, device and finish. They answer by events, never raise."""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from msgspec import structs

from app.catalog import AdapterSpec, ModelSpec
from app.channel.messages import ErrorInfo, JobDelta, Measure, Measured, Progress, Submit
from app.errors import BackendFailed, ModelFailed, NotAvailable, OutOfMemory, PipeserveError
from app.runtime.base import Item, LoadedModel, Stages
from app.runtime.generation.request import Advance, Arrival, EngineState, GenerationRequest, Ranked
from app.worker.batch_queue import Entry, batch_cost
from app.worker.encoding import encode
from app.worker.measuring import measure
from app.worker.memory import empty_cache, is_device_lost, is_out_of_memory

if TYPE_CHECKING:  # it imports torch, which a spawned worker imports after its first heartbeat
    from app.runtime.generation.stages import StreamingStages, Writer

logger = logging.getLogger(__name__)

STEP_S = 1.0

Clock = Callable[[], float]
WorkT = TypeVar("WorkT")
ItemT = TypeVar("ItemT")


class LoadModel(Protocol):
    """What makes a model in this process: `app.runtime.loading.load_model`, or a test's script.

    Runs on the device thread. Raises the errors of `app/errors.py`; anything else is a model that cannot start.
    """

    def __call__(self, spec: ModelSpec, *, num_threads: int, progress: Callable[[Progress], None]) -> LoadedModel: ...


# Work, and the event that answers it


@dataclass(frozen=True, slots=True)
class LoadWork:
    spec: ModelSpec
    num_threads: int


@dataclass(frozen=True, slots=True)
class Loaded:
    model: LoadedModel
    load_s: float


@dataclass(frozen=True, slots=True)
class LoadBroke:
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class ThreadsWork:
    num_threads: int


@dataclass(frozen=True, slots=True)
class MeasureWork:
    """max_items: of one forward."""

    measure: Measure
    max_items: int


@dataclass(frozen=True, slots=True)
class AdapterWork:
    """Have an adapter loaded that jobs wait for."""

    adapter: AdapterSpec


@dataclass(frozen=True, slots=True)
class AdapterLoaded:
    """error: why it cannot be used."""

    adapter: AdapterSpec
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """seconds: its share, from `began_at` on, of the time for several that were prepared together."""

    job_id: int
    items: list[list[Item]]
    began_at: float
    seconds: float = 0.0
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    jobs: list[PreparedJob]


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries of one lane, in the order of their rows. streamed: jobs that somebody reads along with. cancelled: jobs
    that nobody waits for any more; the coordinator adds to it while the device thread computes and looks."""

    entries: list[Entry]
    streamed: frozenset[int] = frozenset()
    cancelled: set[int] = field(default_factory=set)

    @property
    def task(self) -> str:
        return self.entries[0].task

    @property
    def job_ids(self) -> list[int]:
        return list(dict.fromkeys(entry.job_id for entry in self.entries))

    @property
    def tokens(self) -> int:
        return sum(entry.item.cost for entry in self.entries)

    @property
    def padded_tokens(self) -> int:
        return batch_cost([entry.item for entry in self.entries])

    def halves(self) -> tuple[Batch, Batch]:
        middle = (len(self.entries) + 1) // 2
        return Batch(self.entries[:middle], self.streamed), Batch(self.entries[middle:], self.streamed)


@dataclass(frozen=True, slots=True)
class Written:
    """What a step of a batch added to one of its items."""

    entry: Entry
    tokens: Sequence[int]
    ranked: Sequence[Ranked]


@dataclass(frozen=True, slots=True)
class BatchStepped:
    """A forward of many steps goes on."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Forwarded:
    """outputs: one per entry, unless the forward raised `error`. num_misfits: as in `BatchDone`."""

    batch: Batch
    began_at: float
    outputs: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    error: BaseException | None = None
    num_misfits: int = 0


@dataclass(frozen=True, slots=True)
class FinishWork:
    """An input that has all its outputs."""

    job_id: int
    request_id: str
    task: str
    input_index: int
    items: list[Item]
    outputs: list[Any]
    parameters: dict[str, Any]
    media_type: str
    alone: bool


@dataclass(frozen=True, slots=True)
class StreamWork:
    """Steps of one sequence that somebody reads along. sequence_id: of the worker's; parameters: the job's."""

    job_id: int
    request_id: str
    task: str
    sequence_id: int
    item: Item
    parameters: dict[str, Any]
    input_index: int
    position: int
    advances: list[Advance]
    alone: bool


@dataclass(frozen=True, slots=True)
class FinishedInput:
    job_id: int
    input_index: int
    fragment: bytes
    began_at: float
    seconds: float
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """failed: jobs whose stream could not be written, and why."""

    inputs: list[FinishedInput]
    deltas: list[JobDelta] = field(default_factory=list)
    failed: dict[int, ErrorInfo] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineWork:
    """Have the engine run until it has nothing left to do, or the device is wanted for a batch."""

    control: EngineControl


@dataclass(frozen=True, slots=True)
class Stepped:
    """One step of the engine. seconds: of the step."""

    advances: Sequence[Advance]
    state: EngineState


@dataclass(frozen=True, slots=True)
class EngineRested:
    """The device is free. error: what the engine cannot go on from."""

    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class ThreadBroke:
    """A thread ended by an error that its handler should have answered: the worker cannot go on."""

    name: str
    error: BaseException


Event = (
    Loaded
    | LoadBroke
    | AdapterLoaded
    | Prepared
    | Written
    | BatchStepped
    | Forwarded
    | Stepped
    | EngineRested
    | Finished
    | Measured
    | ThreadBroke
)


class EngineControl:
    """Implements the engine's `Control`: the coordinator puts in, the device thread takes out. (A deque's operations
    are atomic.)"""

    def __init__(self, events: SimpleQueue[Any]) -> None:
        self._events = events
        self._arrivals: deque[Arrival] = deque()
        self._departures: deque[int] = deque()
        self.is_device_wanted = False

    def add(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)

    def remove(self, key: int) -> None:
        self._departures.append(key)

    @property
    def has_departures(self) -> bool:
        """Whether the engine still has what nobody waits for."""
        return bool(self._departures)

    def arrivals(self) -> Sequence[Arrival]:
        return _drained(self._arrivals)

    def departures(self) -> Sequence[int]:
        return _drained(self._departures)

    def emit(self, advances: Sequence[Advance], state: EngineState) -> None:
        self._events.put(Stepped(advances, state))

    def is_wanted_elsewhere(self) -> bool:
        return self.is_device_wanted

    def is_fatal(self, error: BaseException) -> bool:
        if is_out_of_memory(error):
            _clear_frames(error)
            empty_cache()
        return is_device_lost(error)


def _drained(waiting: deque[ItemT]) -> list[ItemT]:
    return [waiting.popleft() for _ in range(len(waiting))]


class StageThread(Generic[WorkT]):
    """A thread that handles one piece of work after the other and puts each answer into the coordinator's inbox."""

    def __init__(
        self,
        name: str,
        handle: Callable[[WorkT], Event | None],
        events: SimpleQueue[Any],
        prime: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._handle = handle
        self._prime = prime
        self._events = events
        self._work: SimpleQueue[WorkT | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, work: WorkT) -> None:
        self._work.put(work)

    def end(self) -> None:
        """After the work that it has."""
        self._work.put(None)

    def _run(self) -> None:
        try:
            self._prime()
            while (work := self._work.get()) is not None:
                if (event := self._handle(work)) is not None:
                    self._events.put(event)
        except BaseException as error:
            self._events.put(ThreadBroke(self._name, error))


# The stages catch BaseException: a panic in a Rust tokenizer is not an Exception, and it too is one job's error.


class AdapterLoader:
    """Reads adapters on a thread of its own: a download holds nobody up."""

    def __init__(self, model: LoadedModel) -> None:
        self._adapters = model.adapters

    def handle(self, work: AdapterWork) -> AdapterLoaded:
        try:
            if self._adapters is None:
                raise NotAvailable("This model takes no adapters.")
            self._adapters.load(work.adapter)
        except BaseException as error:
            return AdapterLoaded(work.adapter, error)
        return AdapterLoaded(work.adapter)


class Preparer:
    """Handles lists of jobs on the prepare thread, with stages (so, tokenizers) of its own."""

    def __init__(self, model: LoadedModel, clock: Clock) -> None:
        self._stages = _StagesByTask(model)
        self._adapters = model.adapters
        self._clock = clock

    def prime(self) -> None:
        self._stages.prime()

    def handle(self, jobs: Sequence[Submit]) -> Prepared:
        return Prepared([prepared for _, group in groupby(jobs, _kind) for prepared in self._prepare_all(list(group))])

    def _prepare_all(self, jobs: list[Submit]) -> list[PreparedJob]:
        """Of one kind. all-MiniLM-L6-v2: 100 us for each text one by one, 63 us for one among several."""
        if len(jobs) == 1:
            return [self._prepare(jobs[0])]
        began_at = self._clock()
        try:
            items = iter(self._items(structs.replace(jobs[0], inputs=[one for job in jobs for one in job.inputs])))
        except BaseException:
            return [self._prepare(job) for job in jobs]  # whose fault it is shows one by one
        seconds = (self._clock() - began_at) / len(jobs)
        return [
            PreparedJob(job.job_id, list(islice(items, len(job.inputs))), began_at + index * seconds, seconds)
            for index, job in enumerate(jobs)
        ]

    def _prepare(self, job: Submit) -> PreparedJob:
        began_at = self._clock()
        try:
            items = self._items(job)
        except BaseException as error:
            info = error_info(error, job, "prepare")
            return PreparedJob(job.job_id, [], began_at, self._clock() - began_at, info)
        return PreparedJob(job.job_id, items, began_at, self._clock() - began_at)

    def _items(self, job: Submit) -> list[list[Item]]:
        items = self._stages.of(job.task).prepare(job.inputs, job.parameters)
        if len(items) != len(job.inputs):
            raise RuntimeError(f"prepare made items for {len(items)} of {len(job.inputs)} inputs. This is a bug.")
        if job.adapter is None:
            return items
        adapter = self._adapters.get(job.adapter)
        return [[_with_adapter(item, adapter) for item in row] for row in items]


def _kind(job: Submit) -> Any:
    """Jobs of texts whose kinds are equal may be prepared in one call; all others are of a kind of their own."""
    if not all(isinstance(one, str) for one in job.inputs):
        return job.job_id
    return job.task, job.parameters, job.adapter


def _with_adapter(item: Item, adapter: Any) -> Item:
    if isinstance(item.features, GenerationRequest):
        return replace(item, features=replace(item.features, adapter=adapter), adapter=adapter)
    return replace(item, adapter=adapter)


class Finisher:
    """Handles complete inputs and steps of streams, in order, on the finish thread, with stages of its own."""

    def __init__(self, model: LoadedModel, clock: Clock) -> None:
        self._stages = _StagesByTask(model)
        self._clock = clock
        self._writers: dict[int, Writer] = {}

    def prime(self) -> None:
        self._stages.prime()

    def handle(self, works: Sequence[FinishWork | StreamWork]) -> Finished:
        finished = Finished([])
        for work in works:
            if isinstance(work, FinishWork):
                finished.inputs.append(self._finish(work))
            elif work.job_id not in finished.failed:
                self._write(work, finished)
        return finished

    def forget(self, sequence_ids: Iterable[int]) -> None:
        """Nobody reads along with these any more. Called by the coordinator: removing is atomic."""
        for sequence_id in sequence_ids:
            self._writers.pop(sequence_id, None)

    def _write(self, work: StreamWork, finished: Finished) -> None:
        try:
            delta = self._writer(work).write(work.advances)
        except BaseException as error:
            finished.failed[work.job_id] = error_info(error, work, "finish")
            return
        if work.advances[-1].is_last:
            self._writers.pop(work.sequence_id, None)
        if delta is not None:
            finished.deltas.append(JobDelta(job_id=work.job_id, delta=delta))

    def _writer(self, work: StreamWork) -> Writer:
        if work.sequence_id not in self._writers:
            stages = cast("StreamingStages", self._stages.of(work.task))
            self._writers[work.sequence_id] = stages.writer(
                work.item, work.parameters, prompt=work.input_index, choice=work.position
            )
        return self._writers[work.sequence_id]

    def _finish(self, work: FinishWork) -> FinishedInput:
        began_at = self._clock()
        try:
            answer = self._stages.of(work.task).finish(work.items, work.outputs, work.parameters)
            fragment = encode(answer, work.media_type)
        except BaseException as error:
            info = error_info(error, work, "finish")
            return FinishedInput(work.job_id, work.input_index, b"", began_at, self._clock() - began_at, info)
        return FinishedInput(work.job_id, work.input_index, fragment, began_at, self._clock() - began_at)


class BatchWatch:
    """Implements `Watch`. tell: the coordinator, of a step at most once in STEP_S."""

    def __init__(self, batch: Batch, tell: Callable[[Written | BatchStepped], None], clock: Clock) -> None:
        self._batch = batch
        self._tell = tell
        self._clock = clock
        self._announced_at = clock()

    def step(self) -> None:
        now = self._clock()
        if now - self._announced_at >= STEP_S:
            self._announced_at = now
            self._tell(BatchStepped(self._batch))

    def is_cancelled(self, index: int) -> bool:
        return self._batch.entries[index].job_id in self._batch.cancelled

    def write(self, index: int, tokens: Sequence[int], logprobs: Sequence[float] = ()) -> None:
        entry = self._batch.entries[index]
        if entry.job_id in self._batch.streamed:
            self._tell(Written(entry, tokens, [Ranked(*one) for one in zip(tokens, logprobs, strict=False)]))


class Device:
    """Handles the load and every forward, all on the one device thread."""

    def __init__(
        self,
        load: LoadModel,
        send: Callable[[Progress], None],
        tell: Callable[[Written | BatchStepped], None],
        clock: Clock,
    ) -> None:
        self._load = load
        self._send = send
        self._tell = tell
        self._clock = clock
        self._model: LoadedModel | None = None
        self._stages: _StagesByTask | None = None

    def handle(self, work: LoadWork | ThreadsWork | Batch | EngineWork | MeasureWork) -> Event | None:
        match work:
            case Batch():
                return self._forward(work)
            case EngineWork():
                return self._run_engine(work)
            case LoadWork():
                return self._load_model(work)
            case MeasureWork():
                return self._measure(work)
            case ThreadsWork():
                if self._model is not None:
                    self._model.set_num_threads(work.num_threads)
                return None

    def _load_model(self, work: LoadWork) -> Loaded | LoadBroke:
        began_at = self._clock()
        try:
            self._model = self._load(work.spec, num_threads=work.num_threads, progress=self._send)
            self._stages = _StagesByTask(self._model)
            self._send(Progress(phase="warmup" if self._model.compiled is None else "compile"))
            self._model.warm_up()
        except BaseException as error:
            return LoadBroke(load_error_info(error, work.spec.id))
        return Loaded(self._model, self._clock() - began_at)

    def _run_engine(self, work: EngineWork) -> EngineRested:
        if self._model is None or self._model.engine is None:
            raise RuntimeError("a text was to be generated without an engine. This is a bug.")
        try:
            self._model.engine.run(work.control)
        except BaseException as error:
            return EngineRested(error)
        return EngineRested()

    def _measure(self, work: MeasureWork) -> Measured:
        if self._stages is None:
            raise RuntimeError("a model was to be measured before it was loaded. This is a bug.")
        try:
            return measure(self._stages.of(work.measure.task), work.measure, work.max_items, self._clock)
        except BaseException as error:
            return Measured(error=load_error_info(error, work.measure.task))

    def _forward(self, batch: Batch) -> Forwarded:
        if self._stages is None or self._model is None:
            raise RuntimeError("a forward before the model was loaded. This is a bug.")
        began_at = self._clock()
        try:
            watch = BatchWatch(batch, self._tell, self._clock)
            with self._adapted(batch.entries[0].item.adapter):
                outputs = list(self._stages.of(batch.task).forward([entry.item for entry in batch.entries], watch))
        except BaseException as error:
            # The frames hold the tensors of the failed forward: let go of them before a smaller batch is tried.
            _clear_frames(error)
            if is_out_of_memory(error):
                empty_cache()
            return Forwarded(batch, began_at, seconds=self._clock() - began_at, error=error)
        num_misfits = 0 if self._model.compiled is None else self._model.compiled.take_misfits()
        return Forwarded(batch, began_at, outputs, self._clock() - began_at, num_misfits=num_misfits)

    def _adapted(self, adapter: Any) -> AbstractContextManager[None]:
        if adapter is None or self._model is None:
            return nullcontext()
        context: AbstractContextManager[None] = self._model.adapters.active(adapter)
        return context


def _clear_frames(error: BaseException) -> None:
    """Drop the local variables of an error's frames, and of the errors it came from; the traceback stays readable."""
    current: BaseException | None = error
    while current is not None:
        traceback.clear_frames(current.__traceback__)
        current = current.__context__


class _StagesByTask:
    """One thread's stages, made at the first use of a task."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._stages: dict[str, Stages] = {}

    def prime(self) -> None:
        """Make the first task's stages before its first job needs them."""
        for task in self._model.tasks()[:1]:
            try:
                self.of(task)
            except BaseException as error:
                logger.debug("the stages of %s cannot be made yet: %s", task, error)  # its jobs will say so

    def of(self, task: str) -> Stages:
        if task not in self._stages:
            self._stages[task] = self._model.stages(task)
        return self._stages[task]


class OfJob(Protocol):
    @property
    def job_id(self) -> int: ...

    @property
    def request_id(self) -> str: ...


def error_info(error: BaseException, work: OfJob, stage: str) -> ErrorInfo:
    """What the client reads. An error that is no PipeserveError is logged here, once, and hidden from the client."""
    if isinstance(error, PipeserveError):
        return ErrorInfo.of(error)
    fields = {"request_id": work.request_id}
    logger.error("job %d failed in %s", work.job_id, stage, exc_info=error, extra={"fields": fields})
    if is_out_of_memory(error):
        return ErrorInfo.of(BackendFailed("the model ran out of memory on this input"))
    return ErrorInfo.of(BackendFailed("the model failed on this request; the server's log has the details"))


def load_error_info(error: BaseException, model_id: str) -> ErrorInfo:
    """Why a model cannot start, for its page: the operator reads it, so it is not hidden."""
    if isinstance(error, PipeserveError):
        return ErrorInfo.of(error)
    if is_out_of_memory(error):
        return ErrorInfo.of(OutOfMemory(f"{model_id} does not fit into memory: {error}"))
    logger.error("%s cannot be loaded", model_id, exc_info=error)
    return ErrorInfo.of(ModelFailed(f"{model_id} cannot be loaded: {type(error).__name__}: {error}"))
