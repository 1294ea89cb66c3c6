"""The worker: an actor. Its main thread, the coordinator, owns the job table and the batch queue.

All other threads talk to it through one inbox, and it to them through theirs:

    reader -> [inbox] -> coordinator -> prepare thread -> [inbox] -> coordinator: batch queue
                                     -> device thread  -> [inbox] -> coordinator: outputs gathered per input
                                     -> finish thread  -> [inbox] -> coordinator -> sender

Work is handed to a stage once the announcement of its jobs (`StageBegan`) is on the wire: by the sender thread, unless
the API process knew these jobs to be in some stage already (`app/worker/announcing.py`).
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import msgspec

from app.catalog import AdapterKey, AdapterSpec, BatchSpec, ModelSpec
from app.channel.connection import Disconnected
from app.channel.messages import (
    BatchDone,
    Cancel,
    Credit,
    Deltas,
    DropAdapter,
    ErrorInfo,
    Heartbeat,
    InputsDone,
    JobDelta,
    JobFailed,
    Load,
    LoadFailed,
    Measure,
    Measured,
    Ready,
    SetThreads,
    Stop,
    Submit,
    ToWorker,
)
from app.errors import DeadlineExceeded
from app.fairness import FairQueue
from app.runtime.base import LoadedModel
from app.runtime.generation.request import Advance, Arrival, GenerationRequest, num_generated_in
from app.worker import memory
from app.worker.announcing import Announcer, Sender
from app.worker.batch_queue import BatchQueue, Entry, batch_cost
from app.worker.forward_pace import ForwardPace
from app.worker.jobs import Job
from app.worker.stage_threads import (
    AdapterLoaded,
    AdapterLoader,
    AdapterWork,
    Batch,
    BatchStepped,
    Clock,
    Device,
    EngineControl,
    EngineRested,
    EngineWork,
    Event,
    Finished,
    Finisher,
    FinishWork,
    Forwarded,
    LoadBroke,
    Loaded,
    LoadModel,
    LoadWork,
    MeasureWork,
    Prepared,
    Preparer,
    StageThread,
    Stepped,
    StreamWork,
    ThreadBroke,
    ThreadsWork,
    Written,
    error_info,
)
from app.worker.texts import ReportWriter, Text

logger = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
_MAX_PREPARE_JOBS = 32
_MAX_EARLY_CANCELS = 4096
_FLUSH_S = 5.0
# What a forward costs before its first token, in tokens. On a CPU thread, MiniLM: 8 ms + 0.28 ms per token, so 30, a
# BERT-base: 40 ms + 2.4 ms, so 17. Twice as many gain no throughput, and short texts then wait for long ones: at half
# of the peak p99 is a sixth higher (simulated: docs/lab-log.md). An accelerator computes thousands of tokens in the
# time that launching the kernels takes.
_OVERHEAD_TOKENS = {"cpu": 32}
_ACCELERATOR_OVERHEAD_TOKENS = 1024
_LATE = ErrorInfo.of(DeadlineExceeded("Its answer would have come after its deadline: it was not computed."))
T = TypeVar("T")


class Worker:
    """Owned by the main thread, which calls `run`; only `_beat` belongs to another one."""

    def __init__(
        self,
        connection: Sender,
        inbox: SimpleQueue[ToWorker | Disconnected | Event],
        load: LoadModel,
        clock: Clock,
        on_load: Callable[[ModelSpec], None] = lambda spec: None,
    ) -> None:
        self._connection = connection
        self._inbox = inbox
        self._announcer = Announcer(connection, clock)
        self._clock = clock
        self._on_load = on_load
        self._device: StageThread[LoadWork | ThreadsWork | Batch | EngineWork | MeasureWork] = StageThread(
            "device", Device(load, connection.send, inbox.put, clock).handle, inbox
        )
        self._prepare: StageThread[list[Submit]] | None = None
        self._finish: StageThread[list[FinishWork | StreamWork]] | None = None
        self._finisher: Finisher | None = None
        self._jobs: dict[int, Job] = {}
        self._early_cancels: dict[int, None] = {}
        self._next_due = math.inf  # no deadline of a job is before it
        self._unprepared: FairQueue[Job] = FairQueue(is_live=lambda job: job.job_id in self._jobs)
        self._adapters: Any = None  # `Adapters`, where the model has some
        self._adapter_loader: StageThread[AdapterWork] | None = None
        self._unadapted: dict[AdapterKey, list[Job]] = {}  # jobs whose adapters are not loaded yet
        self._dropped_early: list[AdapterSpec] = []
        self._batch = BatchSpec()
        self._queue = BatchQueue(max_items=1, max_tokens=1)  # until the model is there
        self._pace = ForwardPace(0)
        self._computing: Batch | None = None
        self._split: deque[Batch] = deque()  # halves of failed batches: they go before the queue
        self._forwarded: deque[Forwarded] = deque()
        self._unfinished: deque[FinishWork | StreamWork] = deque()
        self._unwritten: dict[int, StreamWork] = {}  # of `_unfinished`, by sequence
        self._engine = EngineControl(inbox)
        self._texts: dict[int, Text] = {}
        self._next_text_id = 0
        self._is_engine_running = False
        self._is_engines_turn = False
        self._report = ReportWriter(clock)
        self._busy: set[str] = set()
        self._is_stopping = False
        self._ended = threading.Event()
        self._exit_code: int | None = None

    def run(self) -> int:
        """Serve until the end of the connection or `Stop`; the exit code for the process, which is to end at once."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        self._device.start()
        while self._exit_code is None:
            for event in self._next_events():
                self._handle(event)
            self._dispatch()
            self._announcer.settle()
            if self._is_stopping and not self._jobs:
                self._exit_code = 0
        self._end_threads()
        self._connection.finish(_FLUSH_S)
        return self._exit_code

    def _beat(self) -> None:
        is_ended = False
        while not is_ended:
            self._connection.send(Heartbeat(rss_bytes=memory.rss_bytes()))
            is_ended = self._ended.wait(HEARTBEAT_S)

    def _end_threads(self) -> None:
        """Those that hang are not waited for: the process ends."""
        self._ended.set()
        self._device.end()
        for thread in (self._prepare, self._finish, self._adapter_loader):
            if thread is not None:
                thread.end()

    def _next_events(self) -> list[ToWorker | Disconnected | Event]:
        """Everything in the inbox; waits for the first, or until something is due without one."""
        events: list[ToWorker | Disconnected | Event] = []
        try:
            events.append(self._inbox.get(timeout=self._timeout_s()))
            while True:
                events.append(self._inbox.get_nowait())
        except Empty:
            return events

    def _timeout_s(self) -> float | None:
        ready_at = None if "forward" in self._busy else self._queue.ready_at()
        dues = [due for due in (ready_at, self._announcer.due) if due is not None]
        return max(0.0, min(dues) - self._clock()) if dues else None

    def _handle(self, event: ToWorker | Disconnected | Event) -> None:
        match event:
            case Submit():
                self._on_submit(event)
            case Prepared():
                self._on_prepared(event)
            case Forwarded():
                self._rest("forward")
                self._computing = None
                self._forwarded.append(event)
            case Written():
                self._on_written(event)
            case BatchStepped():
                self._on_batch_stepped(event)
            case Stepped():
                self._on_stepped(event)
            case EngineRested():
                self._on_engine_rested(event)
            case Finished():
                self._on_finished(event)
            case Credit():
                self._on_credit(event)
            case Cancel():
                self._on_cancel(event.job_id)
            case AdapterLoaded():
                self._on_adapter(event)
            case DropAdapter():
                self._on_drop_adapter(event.adapter)
            case SetThreads():
                self._device.put(ThreadsWork(event.num_threads))
            case Measure():
                self._device.put(MeasureWork(event, self._batch.max_items))
            case Measured():
                self._announcer.send(event)
            case Load():
                self._on_load_message(event)
            case Loaded():
                self._on_loaded(event)
            case LoadBroke():
                self._announcer.send(LoadFailed(error=event.error))
                self._exit_code = 1
            case Stop():
                self._is_stopping = True
            case Disconnected():
                self._exit_code = 0
            case ThreadBroke():
                logger.critical("the %s thread broke, the worker ends", event.name, exc_info=event.error)
                self._exit_code = 1

    # Loading

    def _on_load_message(self, message: Load) -> None:
        spec = msgspec.convert(message.spec, ModelSpec)
        self._on_load(spec)
        self._batch = spec.batch
        self._device.put(LoadWork(spec, message.num_threads))

    def _on_loaded(self, event: Loaded) -> None:
        model = event.model
        overhead_tokens = _OVERHEAD_TOKENS.get(model.devices[0], _ACCELERATOR_OVERHEAD_TOKENS)
        self._pace = ForwardPace(overhead_tokens)
        self._queue = BatchQueue(
            max_items=self._batch.max_items,
            max_tokens=self._batch.max_tokens,
            max_wait_s=self._batch.max_wait_ms / 1000,
            overhead_tokens=overhead_tokens,
            seconds_for=self._pace.seconds_for,
        )
        preparer, finisher = Preparer(model, self._clock), Finisher(model, self._clock)
        self._finisher = finisher
        self._prepare = StageThread("prepare", preparer.handle, self._inbox, preparer.prime)
        self._finish = StageThread("finish", finisher.handle, self._inbox, finisher.prime)
        self._adapter_loader = StageThread("adapter", AdapterLoader(model).handle, self._inbox)
        self._prepare.start()
        self._finish.start()
        self._adapter_loader.start()
        self._adapters = model.adapters
        for adapter in self._dropped_early:
            self._on_drop_adapter(adapter)
        self._announcer.send(_ready(model, event.load_s))

    # Jobs come and go

    def _on_submit(self, submit: Submit) -> None:
        if submit.has_begun:
            self._announcer.arrived(submit.job_id)
        if submit.job_id in self._early_cancels:
            del self._early_cancels[submit.job_id]
            return
        job = Job(submit, self._clock())
        if submit.time_left_s is not None:
            job.due_at = job.arrived_at + submit.time_left_s
            self._next_due = min(self._next_due, job.due_at)
        self._jobs[job.job_id] = job
        adapter = submit.adapter
        if adapter is None or (self._adapters is not None and self._adapters.is_loaded(adapter.key)):
            self._wait_for_prepare(job)
        else:
            self._unadapted.setdefault(adapter.key, []).append(job)

    def _wait_for_prepare(self, job: Job) -> None:
        submit = job.submit
        self._unprepared.push(job, submit.flow, weight=submit.weight, cost=max(1, len(submit.inputs)))

    def _on_adapter(self, event: AdapterLoaded) -> None:
        self._rest("adapter")
        for job in self._unadapted.pop(event.adapter.key, []):
            if event.error is None:
                self._wait_for_prepare(job)
            else:
                self._fail(job.job_id, error_info(event.error, job.submit, "load-adapter"))

    def _on_drop_adapter(self, adapter: AdapterSpec) -> None:
        if self._adapters is None:
            self._dropped_early.append(adapter)
        else:
            self._adapters.drop(adapter.key)

    def _on_cancel(self, job_id: int) -> None:
        if job_id in self._jobs:
            self._forget(job_id)
            if self._computing is not None:
                self._computing.cancelled.add(job_id)
            return
        # Answered already, or its Submit is still on the way: control messages overtake data.
        self._early_cancels[job_id] = None
        if len(self._early_cancels) > _MAX_EARLY_CANCELS:
            del self._early_cancels[next(iter(self._early_cancels))]

    def _fail(self, job_id: int, error: ErrorInfo) -> None:
        if (job := self._jobs.get(job_id)) is not None:
            self._forget(job_id)
            self._announcer.send(JobFailed(job_id=job_id, error=error, stages=list(job.stages.values())))

    def _answer(self, job: Job) -> None:
        self._forget(job.job_id)
        self._announcer.send(job.answer(self._clock()))

    def _forget(self, job_id: int) -> None:
        job = self._jobs.pop(job_id)
        self._queue.drop(job_id)
        for text_id in job.text_ids:
            if self._texts.pop(text_id, None) is not None:
                self._engine.remove(text_id)
        if job.text_ids and self._finisher is not None:
            self._finisher.forget(job.text_ids)

    # What the stages answer

    def _on_prepared(self, event: Prepared) -> None:
        self._rest("prepare")
        now = self._clock()
        for prepared in event.jobs:
            job = self._jobs.get(prepared.job_id)
            if job is None:
                continue
            job.was_in("prepare", prepared.began_at, prepared.began_at + prepared.seconds)
            if prepared.error is not None:
                self._fail(job.job_id, prepared.error)
                continue
            job.prepare_s = prepared.seconds
            entries = job.begin(prepared.items, now)
            self._queue.push(entry for entry in entries if not _is_text(entry))
            self._begin_texts(job, [entry for entry in entries if _is_text(entry)], now)
            for input_index in job.empty_inputs():
                self._complete(job, input_index)
            if not job.submit.inputs:
                self._answer(job)

    def _gather(self, event: Forwarded) -> None:
        batch = event.batch
        for job in self._jobs_of(batch):
            job.forward_s += event.seconds
            job.batch_size = max(job.batch_size, len(batch.entries))
        for entry, output in zip(batch.entries, event.outputs, strict=True):
            job_or_none = self._jobs.get(entry.job_id)
            if job_or_none is None:
                continue
            if job_or_none.submit.is_stream:
                self._write(job_or_none, entry, Advance(self._reading(job_or_none, entry), output=output))
            if job_or_none.add_output(entry.input_index, entry.position, output):
                self._complete(job_or_none, entry.input_index)

    def _complete(self, job: Job, input_index: int) -> None:
        items, outputs = job.hand_over(input_index)
        submit = job.submit
        self._unfinished.append(
            FinishWork(
                job.job_id,
                submit.request_id,
                submit.task,
                input_index,
                items,
                outputs,
                submit.parameters,
                submit.media_type,
                submit.alone,
            )
        )

    def _on_finished(self, event: Finished) -> None:
        self._rest("finish")
        for job_id, error in event.failed.items():
            self._fail(job_id, error)
        self._send_parts(event.deltas)
        num_inputs: Counter[int] = Counter()
        for finished in event.inputs:
            job = self._jobs.get(finished.job_id)
            if job is None:
                continue
            job.was_in("finish", finished.began_at, finished.began_at + finished.seconds)
            if finished.error is not None:
                self._fail(job.job_id, finished.error)
                continue
            job.finish_s += finished.seconds
            num_inputs[job.job_id] += 1
            if job.add_fragment(finished.input_index, finished.fragment):
                job.is_complete = True
                if not job.held:
                    self._answer(job)
        self._note_inputs(num_inputs)

    def _note_inputs(self, num_inputs: Counter[int]) -> None:
        """Of jobs that have not all their answers yet."""
        jobs = self._jobs
        open_ones = {
            job_id: num for job_id, num in num_inputs.items() if job_id in jobs and not jobs[job_id].is_complete
        }
        if open_ones:
            self._announcer.note(InputsDone(num_inputs=open_ones))

    def _on_batch_stepped(self, event: BatchStepped) -> None:
        """The time limit of a forward is one of a step: it begins anew."""
        if event.batch is self._computing:
            self._announce("forward", event.batch.job_ids, lambda: None)

    # Items of a batch that somebody reads along with

    def _on_written(self, event: Written) -> None:
        job = self._jobs.get(event.entry.job_id)
        if job is not None:
            self._write(job, event.entry, Advance(self._reading(job, event.entry), event.tokens, event.ranked))

    def _reading(self, job: Job, entry: Entry) -> int:
        """The sequence as which the item is read."""
        place = (entry.input_index, entry.position)
        if place not in job.readings:
            job.readings[place] = self._new_text_id(job)
        return job.readings[place]

    def _new_text_id(self, job: Job) -> int:
        text_id, self._next_text_id = self._next_text_id, self._next_text_id + 1
        job.text_ids.append(text_id)
        return text_id

    # Texts: sequences in the engine, which come and go between its steps

    def _begin_texts(self, job: Job, entries: list[Entry], now: float) -> None:
        if not entries:
            return
        arrivals = []
        for entry in entries:
            text_id = self._new_text_id(job)
            self._texts[text_id] = Text(entry, now)
            arrivals.append(Arrival(text_id, entry.item))

        def add() -> None:
            for arrival in arrivals:
                self._engine.add(arrival)

        if self._is_engine_running:
            self._announce("forward", self._text_jobs(), add)
        else:
            add()  # announced when the engine begins

    def _text_jobs(self) -> list[int]:
        return list(dict.fromkeys(text.entry.job_id for text in self._texts.values()))

    def _on_stepped(self, event: Stepped) -> None:
        now = self._clock()
        if self._report.step(event.state, now):
            # The time limit of a forward is one of a step: it begins anew.
            self._announce("forward", self._text_jobs(), lambda: None)
            self._announcer.note(self._report.take())
        for advance in event.advances:
            text = self._texts.get(advance.key)
            if text is None:
                continue
            job, entry = self._jobs[text.entry.job_id], text.entry
            if advance.error is not None:
                self._fail(job.job_id, error_info(advance.error, job.submit, "forward"))
                continue
            if advance.tokens:
                if text.advanced_at is None:
                    job.begun_at = now
                    job.wrote_first(text.arrived_at, now)
                self._report.waited(text, now)
            if job.submit.is_stream:
                self._write(job, entry, advance)
            if advance.output is not None:
                del self._texts[advance.key]
                job.forward_s = max(job.forward_s, now - text.arrived_at)
                job.wrote_last(now)
                job.batch_size = max(job.batch_size, event.state.num_running + 1)
                job.num_generated += num_generated_in(advance.output)
                if job.add_output(entry.input_index, entry.position, advance.output):
                    self._complete(job, entry.input_index)

    def _write(self, job: Job, entry: Entry, advance: Advance) -> None:
        """For the finish thread; what it has not come to yet is written along."""
        waiting = self._unwritten.get(advance.key)
        if waiting is not None:
            waiting.advances.append(advance)
            return
        self._unwritten[advance.key] = work = StreamWork(
            job_id=job.job_id,
            request_id=job.submit.request_id,
            task=job.submit.task,
            sequence_id=advance.key,
            item=entry.item,
            parameters=job.submit.parameters,
            input_index=entry.input_index,
            position=entry.position,
            advances=[advance],
            alone=job.submit.alone,
        )
        self._unfinished.append(work)

    def _on_engine_rested(self, event: EngineRested) -> None:
        self._rest("forward")
        self._is_engine_running = False
        if event.error is not None:
            # Its sequences are in a state that nobody knows. The worker's end makes their jobs the suspects.
            logger.critical("text generation broke, the worker ends", exc_info=event.error)
            self._blame(self._text_jobs())
            self._exit_code = 1
        elif not self._texts:
            self._report.rest()
            self._announcer.note(self._report.take())

    def _send_parts(self, parts: Iterable[JobDelta]) -> None:
        now: list[JobDelta] = []
        for part in parts:
            job = self._jobs.get(part.job_id)
            if job is not None:
                job.held.append(part)
                now += job.take_parts()
        if now:
            self._announcer.send(Deltas(parts=now))

    def _on_credit(self, credit: Credit) -> None:
        job = self._jobs.get(credit.job_id)
        if job is None:
            return
        job.credit += credit.num_parts
        if parts := job.take_parts():
            self._announcer.send(Deltas(parts=parts))
        if job.is_complete and not job.held:
            self._answer(job)

    def _jobs_of(self, batch: Batch) -> list[Job]:
        return [self._jobs[job_id] for job_id in batch.job_ids if job_id in self._jobs]

    # A forward that went wrong: one bad input never harms its neighbours

    def _judge(self, event: Forwarded) -> Forwarded | None:
        """The event if its outputs can be gathered; else its jobs are answered, or its halves are to run again."""
        reason, error = "ok", event.error
        if error is not None:
            reason = "out_of_memory" if memory.is_out_of_memory(error) else "error"
        traced = [job.job_id for job in self._jobs_of(event.batch) if job.submit.is_traced]
        self._announcer.note(_batch_done(event, reason, traced))
        if error is None:
            if len(event.outputs) == len(event.batch.entries):
                self._pace.learn(event.batch.task, event.batch.padded_tokens, event.seconds)
                return event
            error = RuntimeError(
                f"forward gave {len(event.outputs)} outputs for {len(event.batch.entries)} items. This is a bug."
            )
            self._fail_all(event.batch, error)
        elif memory.is_device_lost(error):
            # Nothing more will run on this device in this process. Its end makes this batch's jobs the suspects.
            logger.critical("the device is lost, the worker ends", exc_info=error)
            self._blame(event.batch.job_ids)
            self._exit_code = 1
        else:
            self._bisect(event.batch, error, is_out_of_memory=reason == "out_of_memory")
        return None

    def _bisect(self, batch: Batch, error: BaseException, *, is_out_of_memory: bool) -> None:
        if len(batch.entries) == 1 or (len(batch.job_ids) == 1 and not is_out_of_memory):
            self._fail_all(batch, error)
        else:
            self._fail_those_read(batch, error)
            self._split.extendleft(reversed(batch.halves()))

    def _fail_those_read(self, batch: Batch, error: BaseException) -> None:
        """Somebody may have read of their items: these cannot be computed again."""
        for entry in batch.entries:
            job = self._jobs.get(entry.job_id)
            if job is not None and (entry.input_index, entry.position) in job.readings:
                self._fail(job.job_id, error_info(error, job.submit, "forward"))

    def _fail_all(self, batch: Batch, error: BaseException) -> None:
        for job in self._jobs_of(batch):
            self._fail(job.job_id, error_info(error, job.submit, "forward"))

    # Handing work to the stages

    def _dispatch(self) -> None:
        """The device first: it is to be free as short a time as possible."""
        good = [event for event in map(self._judge, self._drain_forwarded()) if event is not None]
        if self._exit_code is not None:
            return
        self._dispatch_forward()
        for event in good:
            self._gather(event)
        self._shed_late()
        self._dispatch_finish()
        self._dispatch_adapter()
        self._dispatch_prepare()

    def _drain_forwarded(self) -> list[Forwarded]:
        events = list(self._forwarded)
        self._forwarded.clear()
        return events

    def _dispatch_forward(self) -> None:
        if "forward" in self._busy:
            self._engine.is_device_wanted = self._is_engine_running and bool(self._split or len(self._queue))
            return
        is_engines_turn, self._is_engines_turn = self._is_engines_turn and bool(self._texts), False
        batch = [] if is_engines_turn else self._next_split() or self._next_batch()
        if batch:
            self._is_engines_turn = True
            self._computing = work = Batch(batch, self._streamed(batch))
            self._begin(work)
            self._announce("forward", work.job_ids, lambda: self._device.put(work))
        elif self._texts or self._engine.has_departures:
            self._is_engine_running = True
            self._engine.is_device_wanted = False
            self._announce("forward", self._text_jobs(), lambda: self._device.put(EngineWork(self._engine)))

    def _begin(self, batch: Batch) -> None:
        now = self._clock()
        for job in self._jobs_of(batch):
            job.begun_at = now

    def _streamed(self, entries: list[Entry]) -> frozenset[int]:
        return frozenset(entry.job_id for entry in entries if self._jobs[entry.job_id].submit.is_stream)

    def _next_split(self) -> list[Entry]:
        """The next half of a failed batch, without the jobs that were answered or cancelled meanwhile."""
        while self._split:
            live = [entry for entry in self._split.popleft().entries if entry.job_id in self._jobs]
            if live:
                return live
        return []

    def _next_batch(self) -> list[Entry]:
        """Without what would be late: answers come at the end of their forward, whose time is roughly known."""
        while batch := self._queue.take(self._clock()):
            seconds = self._pace.seconds_for(batch[0].task, batch_cost([entry.item for entry in batch]))
            ends_at = self._clock() + seconds
            for job_id in dict.fromkeys(entry.job_id for entry in batch):
                if self._jobs[job_id].due_at < ends_at:
                    self._fail(job_id, _LATE)
            live = [entry for entry in batch if entry.job_id in self._jobs]
            if live:
                return live
        return []

    def _shed_late(self) -> None:
        """Nobody waits any more for what waits here past its deadline. (The API process cancels it as well, in time if
        it can.) What has begun is left to that."""
        now = self._clock()
        if now < self._next_due:
            return
        for job in list(self._jobs.values()):
            if job.due_at <= now:
                if job.begun_at is None:
                    self._fail(job.job_id, _LATE)
                else:
                    job.due_at = math.inf
        self._next_due = min((job.due_at for job in self._jobs.values()), default=math.inf)

    def _dispatch_finish(self) -> None:
        if self._finish is None or "finish" in self._busy:
            return
        works = _take(self._unfinished, lambda work: (work.job_id, work.alone), self._jobs, len(self._unfinished))
        if works:
            self._unwritten.clear()
            finish, job_ids = self._finish, list(dict.fromkeys(work.job_id for work in works))
            self._announce("finish", job_ids, lambda: finish.put(works))

    def _dispatch_adapter(self) -> None:
        if self._adapter_loader is None or "adapter" in self._busy or not self._unadapted:
            return
        loader, jobs = self._adapter_loader, next(iter(self._unadapted.values()))
        adapter = jobs[0].submit.adapter
        assert adapter is not None, "A job without an adapter waits for one. This is a bug."
        self._announce("adapter", [job.job_id for job in jobs], lambda: loader.put(AdapterWork(adapter)))

    def _dispatch_prepare(self) -> None:
        """Prepare ahead of the device, no further than the queue looks."""
        if self._prepare is None or "prepare" in self._busy:
            return
        jobs = self._next_unprepared()
        if jobs:
            prepare, submits = self._prepare, [job.submit for job in jobs]
            self._announce("prepare", [job.job_id for job in jobs], lambda: prepare.put(submits))

    def _next_unprepared(self) -> list[Job]:
        """In fair order; one that is to be alone, alone."""
        jobs: list[Job] = []
        while len(jobs) < _MAX_PREPARE_JOBS:
            found = self._unprepared.first(lambda flow: not self._queue.is_stocked(flow))
            if found is None or (jobs and (found[1].item.submit.alone or jobs[0].submit.alone)):
                break
            jobs.append(self._unprepared.take(found[1]))
        if not self._unprepared.heads():
            self._unprepared.time.rest()
        return jobs

    def _announce(self, stage: str, job_ids: list[int], then: Callable[[], None]) -> None:
        """Say who is to blame if this process dies now, and let the stage begin when that is known."""
        self._busy.add(stage)
        self._announcer.begin(stage, job_ids, then)

    def _blame(self, job_ids: list[int]) -> None:
        """Their forward is over, and ends this process."""
        self._announcer.begin("forward", job_ids, lambda: None)

    def _rest(self, stage: str) -> None:
        self._busy.discard(stage)
        self._announcer.end(stage)


def _is_text(entry: Entry) -> bool:
    return isinstance(entry.item.features, GenerationRequest)


def _take(waiting: deque[T], identify: Callable[[T], tuple[int, bool]], live: Container[int], limit: int) -> list[T]:
    """Up to `limit` from the left, gone jobs left out. identify: job id, and whether it shares with no other job."""
    taken: list[T] = []
    first: tuple[int, bool] | None = None
    while waiting and len(taken) < limit:
        identity = identify(waiting[0])
        if identity[0] not in live:
            waiting.popleft()
            continue
        if first is not None and identity[0] != first[0] and (identity[1] or first[1]):
            break
        first = first or identity
        taken.append(waiting.popleft())
    return taken


def _ready(model: LoadedModel, load_s: float) -> Ready:
    return Ready(
        memory=memory.model_bytes(model.devices, {} if model.engine is None else model.engine.pool),
        dtype=model.dtype,
        num_parameters=model.num_parameters,
        load_s=load_s,
        tasks=model.tasks(),
        max_length=model.max_length,
        embedding_size=model.embedding_size,
        largest_difference=model.largest_difference,
        adapter_problems={} if model.adapters is None else model.adapters.problems,
    )


def _batch_done(event: Forwarded, reason: str, traced: list[int]) -> BatchDone:
    batch = event.batch
    return BatchDone(
        task=batch.task,
        num_items=len(batch.entries),
        tokens=batch.tokens,
        padded_tokens=batch.padded_tokens,
        forward_s=event.seconds,
        reason=reason,
        num_misfits=event.num_misfits,
        began_at=event.began_at,
        traced=traced,
    )
