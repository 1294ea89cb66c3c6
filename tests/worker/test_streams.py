"""Streams of the worker's actor over a scripted engine: who takes parts gets more, who leaves is gone at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from app.catalog import BatchSpec
from app.channel.connection import Disconnected
from app.channel.messages import FIRST_CREDIT, Cancel, Credit, Deltas, EngineReport, JobDone, Submit
from app.runtime.base import Item
from app.runtime.generation.engine import Control
from app.runtime.generation.request import Advance, EngineState, Generated, GenerationRequest, num_generated_in
from app.runtime.generation.stages import Writer
from app.tasks.completion import Delta
from tests.fake_worker import ScriptedModel, ScriptedStages
from tests.worker.test_worker import TASK, RunningWorker


class CountingEngine:
    """As many tokens for each sequence as it wants; a step whenever a test says so."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self.pool: dict[str, int] = {}
        self.num_running: list[int] = []  # at each step
        self._left: dict[int, int] = {}
        self._num_steps = 0

    def step(self) -> None:
        """Returns when it is computed."""
        self.allowed.release()
        assert self._done.acquire(timeout=20)

    def run(self, control: Control) -> None:
        while True:
            self._listen(control)
            if not self._left:
                return
            self.allowed.acquire()
            self._listen(control)
            self._num_steps += 1
            self.num_running.append(len(self._left))
            advances = [self._advance(key) for key in list(self._left)]
            control.emit(advances, EngineState(num_running=len(self._left), num_steps=self._num_steps))
            self._done.release()
            if control.is_wanted_elsewhere():
                return

    def _listen(self, control: Control) -> None:
        self._left |= {one.key: one.item.features.max_tokens for one in control.arrivals()}
        for key in control.departures():
            self._left.pop(key, None)

    def _advance(self, key: int) -> Advance:
        self._left[key] -= 1
        if self._left[key]:
            return Advance(key, (7,))
        del self._left[key]
        return Advance(key, (7,), output=Generated(tokens=[7], finish_reason="length"))


class CountingWriter:
    """One part for each step."""

    def write(self, advances: Sequence[Advance]) -> Delta:
        return Delta(text="." * sum(len(one.tokens) for one in advances))


class TextStages(ScriptedStages):
    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[Item(GenerationRequest(prompt=[1], max_tokens=one["tokens"]), 1)] for one in inputs]

    def writer(self, item: Item, parameters: dict[str, Any], *, prompt: int, choice: int) -> Writer:
        return CountingWriter()

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        return "done"


class TextModel(ScriptedModel):
    def __init__(self) -> None:
        super().__init__()
        self.engine = CountingEngine()

    def stages(self, task: str) -> TextStages:
        return TextStages(self)


class Reader:
    """What the worker has sent of each job's stream, in order."""

    def __init__(self, worker: RunningWorker, engine: CountingEngine) -> None:
        self._worker = worker
        self._engine = engine

    def begin(self, job_id: int, num_tokens: int, *, is_stream: bool = True) -> None:
        inputs = [{"tokens": num_tokens}]
        self._worker.tell(Submit(job_id=job_id, task=TASK, inputs=inputs, parameters={}, is_stream=is_stream))
        self._worker.until_prepared(job_id)

    def step(self, *, read: int) -> None:
        """A step, and the part that the job which is read has of it: so each step is a part of its own."""
        wanted = self.tokens_of(read) + 1
        self._engine.step()
        while self.tokens_of(read) < wanted:
            self._worker.until(lambda message: isinstance(message, Deltas))
        self._worker.tell(Credit(job_id=read, num_parts=1))

    def leave(self, job_id: int) -> None:
        """Returns once the coordinator has heard of it: it answers an empty job behind it."""
        self._worker.tell(Cancel(job_id=job_id), Submit(job_id=job_id + 100, task=TASK, inputs=[], parameters={}))
        self._worker.answer(job_id + 100)

    def tokens_of(self, job_id: int) -> int:
        return sum(len(part.delta.text) for part in self._parts() if part.job_id == job_id)

    def parts_of(self, job_id: int) -> int:
        return sum(part.job_id == job_id for part in self._parts())

    def is_answered(self, job_id: int) -> bool:
        return job_id in self._worker.answered()

    def _parts(self) -> list[Any]:
        return [part for message in self._worker.received if isinstance(message, Deltas) for part in message.parts]


@pytest.fixture
def model() -> TextModel:
    return TextModel()


@pytest.fixture
def worker(model: TextModel) -> Iterator[RunningWorker]:
    running = RunningWorker(model, BatchSpec(max_items=8, max_tokens=1000))
    running.load()
    yield running
    for _ in range(1000):
        model.engine.allowed.release()
    running.end(Disconnected())


@pytest.fixture
def reader(worker: RunningWorker, model: TextModel) -> Reader:
    return Reader(worker, model.engine)


def test_reader_that_takes_nothing_stops_its_own_stream_only(worker: RunningWorker, reader: Reader) -> None:
    """It has its first 64 parts and no more; its neighbour, which takes its parts, has all of them and its answer."""
    reader.begin(1, 100)
    reader.begin(2, 100)
    for _ in range(100):
        reader.step(read=2)
    worker.answer(2)
    assert reader.parts_of(2) == reader.tokens_of(2) == 100
    assert reader.parts_of(1) == FIRST_CREDIT == 64
    assert not reader.is_answered(1)


def test_parts_that_were_held_come_as_their_reader_takes_others(worker: RunningWorker, reader: Reader) -> None:
    """As many as it took, in order and none lost; the answer is behind the last."""
    reader.begin(1, 70)
    reader.begin(2, 1000)
    for _ in range(70):
        reader.step(read=2)
    assert reader.parts_of(1) == 64
    worker.tell(Credit(job_id=1, num_parts=2))
    worker.until(lambda message: isinstance(message, Deltas) and reader.parts_of(1) == 66)
    assert not reader.is_answered(1)
    worker.tell(Credit(job_id=1, num_parts=10))
    assert isinstance(worker.answer(1), JobDone)
    assert reader.tokens_of(1) == 70


def test_answer_tells_how_many_tokens_were_written(worker: RunningWorker, model: TextModel) -> None:
    """Of all inputs' texts, for who counts what a client used; a search's are those that it found."""
    inputs = [{"tokens": 1}, {"tokens": 1}]
    worker.tell(Submit(job_id=1, task=TASK, inputs=inputs, parameters={}))
    worker.until_prepared(1)
    model.engine.step()
    done = worker.answer(1)
    assert isinstance(done, JobDone) and (done.num_tokens, done.num_generated) == (2, 2)
    found = [Generated(tokens=[1, 2], finish_reason="length"), Generated(tokens=[3], finish_reason="eos_token")]
    assert num_generated_in(found) == 3


@pytest.mark.parametrize("is_stream", [True, False])
def test_one_whose_client_leaves_is_gone_at_the_next_step(
    worker: RunningWorker, reader: Reader, model: TextModel, is_stream: bool
) -> None:
    """Streaming or not; the others go on."""
    reader.begin(1, 1000, is_stream=is_stream)
    reader.begin(2, 1000)
    model.engine.step()
    model.engine.step()
    reader.leave(1)
    model.engine.step()
    assert model.engine.num_running == [2, 2, 1]


def test_engine_that_all_have_left_reports_that_it_rests(
    worker: RunningWorker, reader: Reader, model: TextModel
) -> None:
    """Nothing runs and nothing waits, though its last step had said otherwise."""
    reader.begin(1, 1000)
    model.engine.step()
    reader.leave(1)
    model.engine.step()
    report = worker.until(lambda message: isinstance(message, EngineReport) and not message.num_running)
    assert isinstance(report, EngineReport) and report.num_waiting == report.num_used_tokens == 0
