"""The worker's actor with a scripted model: every job is answered exactly once, whatever goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import msgspec
import orjson
import pytest

from app.catalog import BatchSpec, ModelSpec
from app.channel.connection import Disconnected
from app.channel.messages import (
    ARRIVAL,
    BatchDone,
    Cancel,
    Deltas,
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
from app.runtime.base import Item
from app.worker.batch_queue import Entry
from app.worker.stage_threads import Batch, BatchStepped, BatchWatch, LoadModel
from app.worker.worker import Worker
from tests import fake_worker
from tests.fake_worker import ScriptedModel

TASK = "text-classification"


class RecordingSender:
    """Stands for the connection: what is sent is on the wire at once."""

    def __init__(self) -> None:
        self.sent: SimpleQueue[FromWorker] = SimpleQueue()
        self.is_finished = False

    def send(self, *messages: FromWorker, then: Callable[[], None] | None = None) -> None:
        for message in messages:
            self.sent.put(message)
        if then is not None:
            then()

    def finish(self, timeout_s: float) -> None:
        self.is_finished = True


class RunningWorker:
    """A worker in a thread of the test, and what it has sent so far."""

    def __init__(self, model: ScriptedModel, batch: BatchSpec, load: LoadModel | None = None) -> None:
        self.model = model
        self.batch = batch
        self.received: list[FromWorker] = []
        self.exit_code: int | None = None
        self.ahead_s = 0.0  # of its clock
        self._sender = RecordingSender()
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._worker = Worker(self._sender, self._inbox, load or self._load, lambda: time.monotonic() + self.ahead_s)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def tell(self, *messages: object) -> None:
        for message in messages:
            self._inbox.put(message)

    def load(self, model: str = "scripted") -> None:
        spec = ModelSpec(id="scripted", model=model, batch=self.batch)
        self.tell(Load(spec=msgspec.to_builtins(spec), num_threads=2))

    def submit(
        self, job_id: int, *inputs: dict[str, Any], alone: bool = False, is_stream: bool = False, **parameters: Any
    ) -> None:
        submit = Submit(job_id=job_id, task=TASK, inputs=list(inputs), parameters=parameters)
        self.tell(msgspec.structs.replace(submit, alone=alone, is_stream=is_stream))

    def until(self, is_it: Callable[[FromWorker], bool]) -> FromWorker:
        """The next message of this kind; the ones before it are kept in `received`."""
        while True:
            message = self._sender.sent.get(timeout=20)
            self.received.append(message)
            if is_it(message):
                return message

    def answer(self, job_id: int) -> JobDone | JobFailed:
        """The answer of a job, received before or now."""

        def is_it(message: FromWorker) -> bool:
            return isinstance(message, JobDone | JobFailed) and message.job_id == job_id

        found = next(filter(is_it, self.received), None) or self.until(is_it)
        assert isinstance(found, JobDone | JobFailed)
        return found

    def outputs(self, job_id: int) -> list[Any]:
        answer = self.answer(job_id)
        assert isinstance(answer, JobDone), answer
        return [orjson.loads(fragment) for fragment in answer.outputs]

    def failure(self, job_id: int) -> JobFailed:
        answer = self.answer(job_id)
        assert isinstance(answer, JobFailed), answer
        return answer

    def read(self, job_id: int) -> list[str]:
        """The text that has come of each of the job's items."""
        texts: dict[int, str] = {}
        for message in self.received:
            for part in message.parts if isinstance(message, Deltas) else ():
                if part.job_id == job_id:
                    texts[part.delta.choice] = texts.get(part.delta.choice, "") + part.delta.text
        return [texts[choice] for choice in sorted(texts)]

    def until_prepared(self, *job_ids: int) -> None:
        """Until these jobs wait for the device."""
        missing = set(job_ids)
        while missing:
            began = self.until(lambda message: isinstance(message, StageBegan) and message.stage == "prepare")
            assert isinstance(began, StageBegan)
            missing -= set(began.job_ids)
        self.until(lambda message: message == StageBegan(stage="prepare", job_ids=[]))

    def end(self, message: object) -> int:
        """Send the last message; the exit code, with all that was sent before it in `received`."""
        self.tell(message)
        return self.join()

    def join(self) -> int:
        self._thread.join(20)
        assert self.exit_code is not None
        assert self._sender.is_finished
        while not self._sender.sent.empty():
            self.received.append(self._sender.sent.get())
        return self.exit_code

    def answered(self) -> list[int]:
        return [message.job_id for message in self.received if isinstance(message, JobDone | JobFailed)]

    def announcements(self, stage: str) -> list[list[int]]:
        began = [message for message in self.received if isinstance(message, StageBegan)]
        return [message.job_ids for message in began if message.stage == stage and message.job_ids]

    def _load(self, spec: ModelSpec, *, num_threads: int, progress: Callable[[Progress], None]) -> ScriptedModel:
        return self.model

    def _run(self) -> None:
        self.exit_code = self._worker.run()


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    scripted = ScriptedModel()
    yield scripted
    scripted.gate.set()


@pytest.fixture
def batch() -> BatchSpec:
    return BatchSpec(max_items=8, max_tokens=1000)


@pytest.fixture
def worker(model: ScriptedModel, batch: BatchSpec) -> Iterator[RunningWorker]:
    running = RunningWorker(model, batch)
    running.load()
    yield running
    model.gate.set()
    running.end(Disconnected())
    assert sorted(set(running.answered())) == sorted(running.answered()), "a job was answered twice"


def submit_behind_gate(worker: RunningWorker, *inputs: dict[str, Any]) -> None:
    """Jobs 1, 2, ... wait for the device together while job 0 holds it; then the gate opens."""
    worker.submit(0, {"text": "gate", "forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))
    for job_id, one in enumerate(inputs, start=1):
        worker.submit(job_id, one)
    worker.until_prepared(*range(1, len(inputs) + 1))
    worker.model.gate.set()


def test_a_job_is_answered(worker: RunningWorker) -> None:
    """One fragment per input, with the job's own parameters, its tokens and its times."""
    worker.submit(1, {"text": "one"}, {"text": "three"}, top_k=2)
    answer = worker.answer(1)
    assert isinstance(answer, JobDone)
    assert worker.outputs(1) == [[["one"], {"top_k": 2}, [2]], [["three"], {"top_k": 2}, [2]]]
    assert answer.num_tokens == 8
    assert answer.batch_size == 2
    assert min(msgspec.to_builtins(answer.timings).values()) >= 0


def test_ready_says_what_was_loaded(worker: RunningWorker) -> None:
    """The first answer to a Load is its progress, the last is Ready with the model's facts."""
    ready = worker.until(lambda message: isinstance(message, Ready))
    assert isinstance(ready, Ready)
    assert ready.tasks == [TASK]
    assert ready.max_length == 512
    assert ready.memory["cpu"] > 0
    assert any(isinstance(message, Heartbeat) for message in worker.received)


def test_jobs_that_wait_share_a_forward(worker: RunningWorker) -> None:
    """What arrived during a forward is the next batch; each job keeps its own answer."""
    submit_behind_gate(worker, *({"text": letter} for letter in "abcd"))
    assert [worker.outputs(job_id)[0] for job_id in range(1, 5)] == [[[letter], {}, [4]] for letter in "abcd"]
    assert worker.model.batches == [["gate"], ["a", "b", "c", "d"]]


def test_different_groups_do_not_share(worker: RunningWorker) -> None:
    """Items of different forward parameters run in different forwards."""
    worker.submit(0, {"forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))
    worker.submit(1, {"text": "a"}, group=1)
    worker.submit(2, {"text": "b"}, group=2)
    worker.until_prepared(1, 2)
    worker.model.gate.set()
    worker.answer(1)
    worker.answer(2)
    assert worker.model.batches[1:] == [["a"], ["b"]]


def test_an_alone_job_shares_no_stage(worker: RunningWorker) -> None:
    """A suspect is announced by itself in prepare, forward and finish."""
    worker.submit(0, {"forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))
    worker.submit(1, {"text": "a"})
    worker.submit(2, {"text": "b"}, {"text": "c"}, alone=True)
    worker.submit(3, {"text": "d"})
    worker.until_prepared(1, 2, 3)
    worker.model.gate.set()
    for job_id in (1, 2, 3):
        worker.answer(job_id)
    for stage in ("prepare", "forward", "finish"):
        assert [2] in worker.announcements(stage)
        assert all(job_ids == [2] for job_ids in worker.announcements(stage) if 2 in job_ids)


def test_a_job_alone_is_announced_once(worker: RunningWorker) -> None:
    """Before it is touched; what else there is to say of it comes with its answer."""
    worker.until(lambda message: isinstance(message, Ready))
    worker.received.clear()
    worker.submit(1, {"text": "a"})
    worker.answer(1)
    told = [message for message in worker.received if not isinstance(message, Heartbeat)]
    assert told[:2] == [StageBegan(stage="prepare", job_ids=[1]), StageBegan(stage="prepare", job_ids=[])]
    assert [type(message) for message in told[2:]] == [BatchDone, JobDone]


def test_a_job_that_has_begun_is_not_announced(worker: RunningWorker) -> None:
    """The API process counts it as begun until its answer, which comes with the end of its arrival."""
    worker.until(lambda message: isinstance(message, Ready))
    worker.received.clear()
    worker.tell(Submit(job_id=1, task=TASK, inputs=[{"text": "a"}], parameters={}, has_begun=True))
    worker.answer(1)
    told = [message for message in worker.received if not isinstance(message, Heartbeat)]
    assert told[0] == StageBegan(stage=ARRIVAL, job_ids=[])
    assert [type(message) for message in told[1:]] == [BatchDone, JobDone]


def test_a_job_that_has_not_begun_after_all_is_said_to_wait(worker: RunningWorker) -> None:
    """Behind one that nobody waits for any more; and one that was cancelled before it came."""
    worker.submit(1, {"forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[1]))
    worker.tell(Cancel(job_id=1), Cancel(job_id=3))
    for job_id in (2, 3):
        worker.tell(Submit(job_id=job_id, task=TASK, inputs=[{"text": "a"}], parameters={}, has_begun=True))
        worker.until(lambda message: message == StageBegan(stage=ARRIVAL, job_ids=[]))
    assert worker.answered() == []


def test_a_long_forward_is_announced_as_one(worker: RunningWorker) -> None:
    """Its limit is another than that of the stages around it."""
    worker.submit(1, {"forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[1]))
    worker.until(lambda message: message == StageBegan(stage="prepare", job_ids=[]))


class ScriptedCode:
    """Compiled code that fits no forward."""

    def take_misfits(self) -> int:
        return 1


def test_code_that_does_not_fit_is_told_with_the_batch(worker: RunningWorker) -> None:
    """Of models that are compiled; of others there is nothing to tell."""
    worker.submit(1, {"text": "a"})
    worker.answer(1)
    worker.model.compiled = ScriptedCode()
    worker.submit(2, {"text": "b"})
    worker.answer(2)
    assert [message.num_misfits for message in worker.received if isinstance(message, BatchDone)] == [0, 1]


def test_a_large_job_is_split_over_batches(worker: RunningWorker) -> None:
    """Twenty inputs leave in batches of at most eight, and come back in order."""
    worker.submit(1, *({"text": str(index)} for index in range(20)))
    assert [output[0] for output in worker.outputs(1)] == [[str(index)] for index in range(20)]
    assert max(len(batch) for batch in worker.model.batches) <= 8


def test_what_a_large_job_has_answers_for_is_told_before_all_are_there(worker: RunningWorker) -> None:
    """Its permits are others' then. What is left comes with its answer; small jobs say nothing."""
    worker.submit(1, *({"text": str(index)} for index in range(20)))
    worker.submit(2, {"text": "x"})
    worker.answer(1)
    worker.answer(2)
    told = [message.num_inputs for message in worker.received if isinstance(message, InputsDone)]
    assert {job_id for one in told for job_id in one} == {1}
    assert 0 < sum(one[1] for one in told) < 20


def test_an_input_of_many_items_is_finished_once(worker: RunningWorker) -> None:
    """All items of an input, from several batches, meet in one `finish`."""
    worker.submit(1, {"text": "chunked", "items": 20}, {"text": "x"})
    first, second = worker.outputs(1)
    assert len(first[0]) == len(first[2]) == 20
    assert second[0] == ["x"]


def test_an_input_without_items_is_finished(worker: RunningWorker) -> None:
    """Nothing to compute is an answer too, and so is a job without inputs."""
    worker.submit(1, {"items": 0})
    worker.submit(2)
    assert worker.outputs(1) == [[[], {}, []]]
    assert worker.outputs(2) == []


@pytest.mark.parametrize("stage", ["prepare", "forward", "finish"])
@pytest.mark.parametrize("order", ["raise", "panic"])
def test_a_failing_input_fails_its_job_only(worker: RunningWorker, stage: str, order: str) -> None:
    """Whatever the stage raises, its neighbours are answered and the client reads no internals."""
    submit_behind_gate(worker, {"text": "a"}, {"text": "b"}, {"text": "c", stage: order}, {"text": "d"})
    failure = worker.failure(3)
    assert failure.error.code == "backend"
    assert "secret" not in failure.error.message
    for job_id, letter in ((1, "a"), (2, "b"), (4, "d")):
        assert worker.outputs(job_id)[0][0] == [letter]


@pytest.mark.parametrize("stage", ["prepare", "forward", "finish"])
def test_an_error_for_the_client_reaches_it(worker: RunningWorker, stage: str) -> None:
    """InvalidInput keeps its words and its parameter."""
    worker.submit(1, {"text": "a", stage: "invalid"})
    error = worker.failure(1).error
    assert (error.code, error.param) == ("validation", "inputs[0]")
    assert "taste" in error.message


def test_a_traceback_is_logged_once(worker: RunningWorker, caplog: pytest.LogCaptureFixture) -> None:
    """The operator finds the cause in the log, with the job's id."""
    submit_behind_gate(worker, {"text": "a"}, {"text": "b", "forward": "raise"})
    worker.failure(2)
    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 1
    assert "job 2 failed in forward" in records[0].getMessage()


def test_a_failed_batch_is_bisected(worker: RunningWorker) -> None:
    """Each forward of the search is reported, with its outcome."""
    submit_behind_gate(worker, {"text": "a"}, {"text": "b"}, {"text": "c", "forward": "raise"}, {"text": "d"})
    worker.failure(3)
    worker.answer(4)
    assert worker.model.batches[1:] == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["c"], ["d"]]
    reasons = [(message.num_items, message.reason) for message in worker.received if isinstance(message, BatchDone)]
    assert reasons[1:] == [(4, "error"), (2, "ok"), (2, "error"), (1, "error"), (1, "ok")]


def test_out_of_memory_halves_the_batch(worker: RunningWorker) -> None:
    """A batch too large for the device is computed in parts, a single job's batch included."""
    worker.model.max_batch = 2
    worker.submit(1, *({"text": str(index)} for index in range(7)))
    assert [output[0] for output in worker.outputs(1)] == [[str(index)] for index in range(7)]
    reasons = [message.reason for message in worker.received if isinstance(message, BatchDone)]
    assert "out_of_memory" in reasons
    assert reasons[-1] == "ok"


def test_out_of_memory_with_one_item_is_that_jobs_error(worker: RunningWorker) -> None:
    """There is nothing left to halve: the job fails, the worker goes on."""
    worker.submit(1, {"text": "a", "forward": "memory"})
    assert "memory" in worker.failure(1).error.message
    worker.submit(2, {"text": "b"})
    worker.outputs(2)


def test_a_wrong_number_of_outputs_answers_all_its_jobs(worker: RunningWorker) -> None:
    """Nobody can say whose output is whose."""
    submit_behind_gate(worker, {"text": "a"}, {"text": "b", "forward": "count"})
    assert worker.failure(1).error.code == "backend"
    assert worker.failure(2).error.code == "backend"


def test_a_wrong_number_of_prepared_inputs_fails_the_job(worker: RunningWorker) -> None:
    """A bug of the stages is answered like any failure."""
    worker.submit(1, {"prepare": "count"}, {"text": "a"})
    assert worker.failure(1).error.code == "backend"


@pytest.mark.parametrize("order", ["nan", "array"])
def test_a_number_that_is_not_finite_is_an_error(worker: RunningWorker, order: str) -> None:
    """Never `null` in an answer."""
    worker.submit(1, {"text": "a", "finish": order})
    assert "finite" in worker.failure(1).error.message


def submit_for(worker: RunningWorker, job_id: int, text: str, **fields: Any) -> None:
    worker.tell(Submit(job_id=job_id, task=TASK, inputs=[{"text": text}], parameters={}, **fields))


def close_gate(worker: RunningWorker) -> None:
    """Job 0 is in the forward until the model's gate is set."""
    worker.submit(0, {"text": "gate", "forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))


def test_what_is_late_is_not_computed(worker: RunningWorker) -> None:
    """Its deadline passed while it waited for the device: it is answered, and no forward sees it."""
    close_gate(worker)
    submit_for(worker, 1, "late", time_left_s=100)
    submit_for(worker, 2, "in time", time_left_s=1000)
    worker.until_prepared(1, 2)
    worker.ahead_s = 200
    worker.model.gate.set()
    assert worker.failure(1).error.code == "deadline_exceeded"
    assert worker.outputs(2)
    assert worker.model.batches == [["gate"], ["in time"]]


def test_what_comes_late_is_not_even_prepared(worker: RunningWorker) -> None:
    """Nobody waits for it any more."""
    submit_for(worker, 1, "late", time_left_s=-1)
    assert "not computed" in worker.failure(1).error.message
    submit_for(worker, 2, "in time", time_left_s=1000)
    worker.answer(2)
    began = [one for one in worker.received if isinstance(one, StageBegan) and one.stage == "prepare"]
    assert not any(1 in one.job_ids for one in began)


def test_what_would_be_late_is_not_computed(worker: RunningWorker) -> None:
    """Forwards have taken ten seconds: five are not enough."""
    close_gate(worker)
    worker.ahead_s = 10
    worker.model.gate.set()
    worker.answer(0)
    submit_for(worker, 1, "late", time_left_s=5)
    assert worker.failure(1).error.code == "deadline_exceeded"
    submit_for(worker, 2, "in time", time_left_s=1000)
    assert worker.outputs(2)
    assert worker.model.batches == [["gate"], ["in time"]]


def test_what_is_being_computed_at_its_deadline_goes_on(worker: RunningWorker) -> None:
    """Who waits for it decides: the API process cancels it, or takes the answer."""
    worker.tell(
        Submit(job_id=0, task=TASK, inputs=[{"text": "gate", "forward": "wait"}], parameters={}, time_left_s=100)
    )
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))
    worker.ahead_s = 200
    worker.submit(1, {"text": "a"})
    worker.until_prepared(1)
    worker.model.gate.set()
    assert worker.outputs(0)


def test_a_flood_does_not_hold_up_others(worker: RunningWorker) -> None:
    """Neither their preparing nor their forward: they are in the next batch but one at the latest."""
    close_gate(worker)
    for job_id in range(1, 101):
        submit_for(worker, job_id, "flood", flow=("flood", 0))
    submit_for(worker, 200, "other", flow=("polite", 0))
    worker.until_prepared(200)
    worker.model.gate.set()
    worker.answer(200)
    assert any("other" in batch for batch in worker.model.batches[1:3])


def test_how_long_a_job_waited_is_told(worker: RunningWorker) -> None:
    """From its arrival until the forward, whatever the forward takes."""
    close_gate(worker)
    worker.submit(1, {"text": "a"})
    worker.until_prepared(1)
    worker.ahead_s = 50
    worker.model.gate.set()
    first, second = worker.answer(0), worker.answer(1)
    assert isinstance(first, JobDone) and isinstance(second, JobDone)
    assert first.wait_s < 50 <= second.wait_s


def test_a_cancelled_job_that_waits_is_not_computed(worker: RunningWorker) -> None:
    """Its items leave the queue and nothing is answered."""
    worker.submit(0, {"text": "gate", "forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))
    worker.submit(1, {"text": "a"})
    worker.submit(2, {"text": "b"})
    worker.until_prepared(1, 2)
    worker.tell(Cancel(job_id=1))
    worker.submit(3, {"text": "c"})
    worker.until_prepared(3)
    worker.model.gate.set()
    worker.answer(2)
    worker.answer(3)
    assert worker.model.batches[1:] == [["b", "c"]]
    worker.end(Stop())
    assert 1 not in worker.answered()


def test_a_cancelled_job_on_the_device_answers_nothing(worker: RunningWorker) -> None:
    """The forward goes on, its output is thrown away."""
    worker.submit(1, {"forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[1]))
    worker.tell(Cancel(job_id=1))
    worker.submit(2, {"text": "a"})
    worker.until_prepared(2)
    worker.model.gate.set()
    worker.answer(2)
    assert worker.answered() == [2]


def test_a_cancel_may_overtake_its_submit(worker: RunningWorker) -> None:
    """Control goes before data, so the job may arrive after its cancellation: it is not begun."""
    worker.tell(Cancel(job_id=1))
    worker.submit(1, {"text": "a"})
    worker.submit(2, {"text": "b"})
    worker.answer(2)
    assert worker.model.batches == [["b"]]


def test_stop_answers_what_was_accepted(worker: RunningWorker) -> None:
    """Running and waiting jobs are finished, then the worker ends with 0."""
    worker.submit(1, {"text": "a", "forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[1]))
    worker.submit(2, {"text": "b"})
    worker.until_prepared(2)
    worker.tell(Stop())
    worker.model.gate.set()
    assert worker.join() == 0
    assert worker.answered() == [1, 2]


def test_stop_without_work_ends_at_once(worker: RunningWorker) -> None:
    """Nothing to finish, nothing to wait for."""
    assert worker.end(Stop()) == 0


def test_the_end_of_the_connection_ends_a_hanging_worker(worker: RunningWorker) -> None:
    """A forward that hangs does not keep the coordinator from ending."""
    worker.submit(1, {"forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[1]))
    assert worker.end(Disconnected()) == 0


def test_a_lost_device_ends_the_worker_with_its_jobs_to_blame(worker: RunningWorker) -> None:
    """What is said last names the batch, and not a job that only waited."""
    worker.submit(0, {"text": "gate", "forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))
    worker.submit(1, {"text": "a", "forward": "lost"})
    worker.submit(2, {"text": "b"}, group=2)
    worker.until_prepared(1, 2)
    worker.model.gate.set()
    assert worker.join() == 1
    stages = {message.stage: message.job_ids for message in worker.received if isinstance(message, StageBegan)}
    assert stages["forward"] == [1] and 2 not in stages["prepare"] + stages.get("finish", [])


def test_granted_threads_reach_the_device(worker: RunningWorker) -> None:
    """SetThreads is applied before the next forward."""
    worker.until(lambda message: isinstance(message, Ready))
    worker.tell(SetThreads(num_threads=3))
    worker.submit(1, {"text": "a"})
    worker.answer(1)
    assert worker.model.num_threads == [3]


def test_a_model_that_cannot_start_says_why(model: ScriptedModel, batch: BatchSpec) -> None:
    """Its own words for a PipeserveError; the worker ends with 1."""
    worker = RunningWorker(model, batch, load=fake_worker.load)
    worker.load("fail")
    assert worker.join() == 1
    (failed,) = [message for message in worker.received if isinstance(message, LoadFailed)]
    assert failed.error.code == "model_failed"
    assert failed.error.message == "its weights are broken"


@pytest.mark.parametrize(("script", "code"), [("raise", "model_failed"), ("memory", "out_of_memory")])
def test_a_load_that_breaks_has_a_code(model: ScriptedModel, batch: BatchSpec, script: str, code: str) -> None:
    """Out of memory is told apart, so that the fleet may evict and try again."""
    worker = RunningWorker(model, batch, load=fake_worker.load)
    worker.load(script)
    assert worker.join() == 1
    (failed,) = [message for message in worker.received if isinstance(message, LoadFailed)]
    assert failed.error.code == code


def test_max_wait_gathers_a_batch(model: ScriptedModel) -> None:
    """With max_wait_ms a lone job waits for company, and is answered without it when the time is up."""
    worker = RunningWorker(model, BatchSpec(max_items=2, max_wait_ms=20))
    worker.load()
    worker.submit(1, {"text": "a"})
    assert worker.outputs(1) == [[["a"], {}, [1]]]
    worker.end(Disconnected())


def test_many_jobs_are_each_answered_once(worker: RunningWorker) -> None:
    """Three hundred jobs of mixed fates, some cancelled: every other one has exactly one answer."""
    for job_id in range(300):
        order = {7: "raise", 8: "memory", 9: "invalid"}.get(job_id % 20)
        stage = ("prepare", "forward", "finish")[job_id % 3]
        worker.submit(job_id, {"text": "x" * (job_id % 40), stage: order}, alone=job_id % 50 == 0)
    for job_id in range(0, 300, 11):
        worker.tell(Cancel(job_id=job_id))
    worker.end(Stop())
    answered = worker.answered()
    assert len(answered) == len(set(answered))
    assert set(range(300)) - set(range(0, 300, 11)) <= set(answered)


def test_cancel_reaches_a_forward_of_many_steps(worker: RunningWorker) -> None:
    """The item that nobody waits for ends at its next step, and those that come after it are answered."""
    worker.submit(1, {"text": "a", "forward": "steps"})
    worker.until(
        lambda message: isinstance(message, StageBegan) and message.stage == "forward" and message.job_ids == [1]
    )
    worker.tell(Cancel(job_id=1))
    worker.submit(2, {"text": "b"})
    assert worker.outputs(2)
    assert 1 <= worker.model.num_steps < 1000
    assert not any(isinstance(message, JobDone | JobFailed) and message.job_id == 1 for message in worker.received)


def test_a_forward_can_be_read_along(worker: RunningWorker) -> None:
    """While it still computes; what each item adds goes to whoever streams it, and the answer comes last."""
    worker.submit(1, {"text": "abc", "forward": "write", "after": "wait"}, is_stream=True)
    while worker.read(1) != ["abc"]:
        worker.until(lambda message: isinstance(message, Deltas))
    worker.model.gate.set()
    assert worker.outputs(1)
    assert worker.read(1) == ["abc."]


def test_strangers_in_a_batch_are_read_apart(worker: RunningWorker) -> None:
    """Items of streams side by side, and of a job that nobody reads; several items of a job apart."""
    worker.submit(0, {"text": "gate", "forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))
    worker.submit(1, {"text": "abc", "forward": "write", "items": 2}, is_stream=True)
    worker.submit(2, {"text": "xyz", "forward": "write"})
    worker.submit(3, {"text": "de"}, is_stream=True)
    worker.until_prepared(1, 2, 3)
    worker.model.gate.set()
    assert worker.outputs(1) == [[["abc", "abc"], {}, [4, 4]]]
    assert worker.outputs(2) and worker.outputs(3)
    assert [worker.read(job_id) for job_id in (1, 2, 3)] == [["abc.", "abc."], [], ["."]]


def test_what_was_read_is_not_computed_again(worker: RunningWorker) -> None:
    """When a batch fails, its jobs that somebody has read of fail; the others are tried again."""
    worker.submit(0, {"text": "gate", "forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))
    worker.submit(1, {"text": "abc", "forward": "write"}, is_stream=True)
    worker.submit(2, {"text": "good"}, is_stream=True)
    worker.submit(3, {"text": "bad", "forward": "raise"})
    worker.until_prepared(1, 2, 3)
    worker.model.gate.set()
    assert worker.failure(1).error.code == worker.failure(3).error.code == "backend"
    assert worker.outputs(2)
    assert worker.read(1) in ([], ["abc"]) and worker.read(2) == ["."]


def test_steps_begin_the_limit_of_a_forward_anew() -> None:
    """Told at most once a second: a generation may take as long as it likes, a step may not."""
    now = 100.0
    told: list[object] = []
    entries = [Entry(job_id, TASK, Item(None, 1), 0.0) for job_id in (1, 1, 2)]
    batch = Batch(entries)
    watch = BatchWatch(batch, told.append, lambda: now)
    for now in (100.1, 100.9, 101.1, 101.2, 102.0, 102.3):  # noqa: B007  # the watch's clock
        watch.step()
    assert told == [BatchStepped(batch)] * 2
    assert not watch.is_cancelled(2)
    batch.cancelled.add(2)
    assert [watch.is_cancelled(index) for index in range(3)] == [False, False, True]


def test_a_forward_that_goes_on_is_announced_again(worker: RunningWorker) -> None:
    """By the worker, for each step that it was told of."""
    worker.submit(1, {"text": "a", "forward": "steps"})
    for _ in range(2):
        worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[1]))
    worker.tell(Cancel(job_id=1))


def test_stages_of_a_traced_job_are_told(worker: RunningWorker) -> None:
    """When it was in them, on the clock of all processes; its forwards name it, and nobody else."""
    worker.tell(Submit(job_id=1, task=TASK, inputs=[{"text": "a"}], parameters={}, is_traced=True))
    worker.submit(2, {"text": "b"})
    answer, untraced = worker.answer(1), worker.answer(2)
    assert [one.stage for one in answer.stages] == ["prepare", "finish"]
    prepare, finish = answer.stages
    batch = next(message for message in worker.received if isinstance(message, BatchDone) and message.traced)
    assert batch.traced == [1]
    assert prepare.began_at <= prepare.ended_at <= batch.began_at
    assert batch.began_at + batch.forward_s <= finish.began_at <= finish.ended_at <= time.monotonic()
    assert untraced.stages == []


@pytest.mark.parametrize("stage", ["prepare", "forward", "finish"])
def test_traced_job_that_fails_tells_how_far_it_came(worker: RunningWorker, stage: str) -> None:
    """The stage that it failed in included."""
    order = {"text": "a", stage: "raise"}
    worker.tell(Submit(job_id=1, task=TASK, inputs=[order], parameters={}, is_traced=True))
    expected = {"prepare": ["prepare"], "forward": ["prepare"], "finish": ["prepare", "finish"]}
    assert [one.stage for one in worker.failure(1).stages] == expected[stage]
    batches = [message for message in worker.received if isinstance(message, BatchDone)]
    assert [batch.traced for batch in batches] == ([] if stage == "prepare" else [[1]])


def test_error_in_the_log_names_its_request(worker: RunningWorker, caplog: pytest.LogCaptureFixture) -> None:
    """The client is told the same id."""
    for job_id, stage in enumerate(("prepare", "forward", "finish"), start=1):
        order = {"text": "a", stage: "raise"}
        worker.tell(Submit(job_id=job_id, task=TASK, inputs=[order], parameters={}, request_id=f"request-{job_id}"))
        worker.failure(job_id)
    told = [vars(record)["fields"]["request_id"] for record in caplog.records if "failed in" in record.getMessage()]
    assert told == ["request-1", "request-2", "request-3"]
