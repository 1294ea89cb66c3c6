"""Whom the API process would blame is what the worker is at, at any moment, in as few writes as may be."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from app.channel.messages import BatchDone, FromWorker, JobDone, StageBegan, Timings
from app.worker.announcing import PATIENCE_S, Announcer

STAGES = ("prepare", "forward", "finish")
BATCH = BatchDone(task="text-classification", num_items=1, tokens=3, padded_tokens=3, forward_s=0.1)


class SlowSender:
    """A connection whose sender thread writes when the test says so. known: what the API process knows then."""

    def __init__(self) -> None:
        self.known: dict[str, list[int]] = {}
        self.writes: list[list[FromWorker]] = []
        self._queued: list[tuple[tuple[FromWorker, ...], Callable[[], None] | None]] = []

    def send(self, *messages: FromWorker, then: Callable[[], None] | None = None) -> None:
        self._queued.append((messages, then))

    def finish(self, timeout_s: float) -> None:
        raise AssertionError("the announcer does not end the connection")

    def write(self) -> None:
        queued, self._queued = self._queued, []
        written = [message for messages, _ in queued for message in messages]
        for message in written:
            if isinstance(message, StageBegan):
                self.known[message.stage] = message.job_ids
        if written:
            self.writes.append(written)
        for _, then in queued:
            if then is not None:
                then()

    @property
    def blamed(self) -> set[int]:
        return {job_id for job_ids in self.known.values() for job_id in job_ids}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sender() -> SlowSender:
    return SlowSender()


@pytest.fixture
def announcer(sender: SlowSender, clock: Clock) -> Announcer:
    return Announcer(sender, clock)


def done(job_id: int) -> JobDone:
    timings = Timings(queue_s=0.0, prepare_s=0.0, forward_s=0.0, finish_s=0.0)
    return JobDone(job_id=job_id, outputs=[], timings=timings, batch_size=1, num_tokens=1)


def test_a_stage_begins_when_its_jobs_are_on_the_wire(announcer: Announcer, sender: SlowSender) -> None:
    """And not before."""
    begun: list[str] = []
    announcer.begin("prepare", [1, 2], lambda: begun.append("prepare"))
    announcer.settle()
    assert not begun
    sender.write()
    assert begun == ["prepare"] and sender.known == {"prepare": [1, 2]}


def test_the_next_stage_of_the_same_jobs_begins_at_once(announcer: Announcer, sender: SlowSender) -> None:
    """Its news come with the answer, and so do the notes, before it."""
    begun: list[str] = []
    announcer.begin("prepare", [1], lambda: None)
    sender.write()
    announcer.end("prepare")
    announcer.begin("forward", [1], lambda: begun.append("forward"))
    announcer.note(BATCH)
    announcer.settle()
    assert begun == ["forward"]
    announcer.end("forward")
    announcer.send(done(1))
    announcer.settle()
    sender.write()
    assert sender.writes[1:] == [[StageBegan(stage="prepare", job_ids=[]), BATCH, done(1)]]
    assert announcer.due is None


def test_a_job_that_has_begun_begins_at_once(announcer: Announcer, sender: SlowSender) -> None:
    """It needs no announcement; where it goes no further, that is said at once."""
    begun: list[str] = []
    for job_id, is_taken in ((1, True), (2, False)):
        sender.known["arrival"] = [job_id]
        announcer.arrived(job_id)
        if is_taken:
            announcer.begin("prepare", [job_id], lambda: begun.append("prepare"))
        announcer.settle()
        sender.write()
        assert sender.blamed == ({1} if is_taken else set())
        announcer.end("prepare")
        announcer.settle()
        sender.write()
        assert sender.blamed == set()
    assert begun == ["prepare"] and len(sender.writes) == 2


def test_the_next_stage_waits_for_an_announcement_on_its_way(announcer: Announcer, sender: SlowSender) -> None:
    """Known jobs are known once that is written."""
    begun: list[str] = []
    announcer.begin("prepare", [1], lambda: begun.append("prepare"))
    announcer.begin("forward", [1], lambda: begun.append("forward"))
    assert not begun
    sender.write()
    assert begun == ["prepare", "forward"]


def test_a_job_that_only_waits_is_blamed_no_longer(announcer: Announcer, sender: SlowSender) -> None:
    """Of two that were prepared one is computed: that is on the wire before it is."""
    announcer.begin("prepare", [1, 2], lambda: None)
    sender.write()
    announcer.end("prepare")
    announcer.begin("forward", [1], lambda: None)
    sender.write()
    assert sender.blamed == {1}
    announcer.end("forward")
    announcer.settle()
    sender.write()
    assert sender.blamed == set()


def test_the_stage_is_told_before_long(announcer: Announcer, sender: SlowSender, clock: Clock) -> None:
    """Its limit is counted from then; beginnings come first, so that the job is in some stage at any moment."""
    announcer.begin("prepare", [1], lambda: None)
    sender.write()
    announcer.end("prepare")
    announcer.begin("forward", [1], lambda: None)
    assert announcer.due == clock.now + PATIENCE_S
    clock.now += PATIENCE_S
    announcer.settle()
    sender.write()
    assert sender.writes[1:] == [[StageBegan(stage="forward", job_ids=[1]), StageBegan(stage="prepare", job_ids=[])]]
    announcer.begin("forward", [1], lambda: None)  # anew
    clock.now += PATIENCE_S
    announcer.settle()
    sender.write()
    assert sender.writes[2:] == [[StageBegan(stage="forward", job_ids=[1])]]


@pytest.mark.parametrize("seed", range(20))
def test_the_jobs_in_stages_are_those_to_blame(seed: int) -> None:
    """Whatever the stages do: when work begins its jobs are known, and after each turn no others are."""
    draw = random.Random(seed)
    sender, clock = SlowSender(), Clock()
    announcer = Announcer(sender, clock)
    stages: dict[str, list[int]] = {}

    def check(job_ids: list[int]) -> None:
        assert set(job_ids) <= sender.blamed

    for _ in range(200):
        clock.now += draw.choice((0.001, 0.1))
        for stage in draw.sample(STAGES, 2):
            if draw.random() < 0.5:
                stages.pop(stage, None)
                announcer.end(stage)
            else:
                stages[stage] = job_ids = draw.sample(range(4), draw.randint(1, 2))
                announcer.begin(stage, job_ids, lambda job_ids=job_ids: check(job_ids))  # type: ignore[misc]
            if draw.random() < 0.2:
                announcer.note(BATCH)
        announcer.settle()
        sender.write()
        assert sender.blamed == {job_id for job_ids in stages.values() for job_id in job_ids}
