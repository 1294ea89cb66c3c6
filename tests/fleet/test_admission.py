"""Permits: who gets them when they are few, and who is refused because it would wait too long."""

from __future__ import annotations

import math
import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InputTooLarge, Overloaded
from app.fairness import Flow, weight_of
from app.fleet.admission import Admission, Pace, Permit

FLOOD: Flow = ("flood", 0)
POLITE: Flow = ("polite", 0)


def admission(*, model: int = 10, total: int = 100) -> Admission:
    made = Admission(total)
    made.add("a", model)
    return made


def test_all_permits_or_none() -> None:
    """A refused request has taken nothing."""
    queue = admission()
    queue.acquire("a", 8, 0)
    with pytest.raises(Overloaded, match="8 of 10"):
        queue.acquire("a", 3, 0)
    assert queue.in_use("a") == 8
    queue.acquire("a", 2, 0)


def test_permits_come_back() -> None:
    """To the model and to the total."""
    queue = admission(model=10, total=10)
    for _ in range(5):
        permit = queue.acquire("a", 10, 0)
        queue.release(permit, 1, waited_s=1)


def test_permits_come_back_as_items_finish() -> None:
    """Each once, however often it is said: what a worker did before its death is done again."""
    queue = admission()
    permit = queue.acquire("a", 10, 0, flow=FLOOD)
    for num_items, left in ((4, 6), (4, 2), (4, 0)):
        queue.release_some(permit, num_items)
        assert queue.in_use("a") == left
    queue.acquire("a", 10, 1, flow=POLITE)
    queue.release(permit, 2, waited_s=1)
    assert queue.in_use("a") == 10


def test_more_than_the_capacity_is_too_large() -> None:
    """The sentence names the smaller of both limits."""
    with pytest.raises(InputTooLarge, match="11 inputs; .* at most 10"):
        admission().acquire("a", 11, 0)
    with pytest.raises(InputTooLarge, match="at most 7"):
        admission(total=7).acquire("a", 8, 0)


def test_who_is_refused_is_counted() -> None:
    """By the reason."""
    seen: list[tuple[str, str]] = []
    queue = Admission(16, lambda model, reason: seen.append((model, reason)))
    queue.add("a", 8)
    queue.add("b", 16)
    permit = queue.acquire("a", 7, 0, flow=FLOOD)
    for model, num_items in (("a", 1), ("a", 2), ("b", 9), ("b", 10)):
        with pytest.raises(Overloaded):
            queue.acquire(model, num_items, 0, flow=FLOOD)
    queue.release(permit, 9, waited_s=9)
    queue.acquire("a", 5, 9)
    with pytest.raises(Overloaded):
        queue.acquire("a", 1, 9, max_wait_s=1)
    reasons = ["client_share", "model_queue", "model_share", "total_queue", "max_wait"]
    assert seen == list(zip("aabba", reasons, strict=True))


# Shares


def fill(queue: Admission, model_id: str, flow: Flow, *, most: int = 10_000) -> list[Permit]:
    """As many single items as it gets."""
    permits: list[Permit] = []
    while len(permits) < most:
        try:
            permits.append(queue.acquire(model_id, 1, 0, flow=flow))
        except Overloaded:
            return permits
    return permits


def test_one_key_cannot_take_all_permits() -> None:
    """The last eighth is for others; who has less than its share gets in, all at once if it fits."""
    queue = admission(model=80)
    assert len(fill(queue, "a", FLOOD)) == 70
    queue.acquire("a", 6, 0, flow=POLITE)
    with pytest.raises(Overloaded, match="nearly full: 76 of 80 .* clients that have less than their share"):
        queue.acquire("a", 1, 0, flow=FLOOD)
    queue.acquire("a", 4, 0, flow=POLITE)
    with pytest.raises(Overloaded, match="is full"):
        queue.acquire("a", 1, 0, flow=("a third", 0))


def test_permits_that_a_flood_gives_back_go_to_the_others() -> None:
    """Until each has its share, though the flood asks again and again."""
    queue = admission(model=80)
    held = {FLOOD: deque(fill(queue, "a", FLOOD)), POLITE: deque(fill(queue, "a", POLITE))}
    assert [len(permits) for permits in held.values()] == [70, 10]
    for _ in range(60):
        queue.release(held[FLOOD].popleft(), 0, waited_s=None)
        for flow in (FLOOD, POLITE):
            held[flow] += fill(queue, "a", flow)
    assert [len(permits) for permits in held.values()] == [40, 40]


def test_without_keys_all_permits_are_for_all() -> None:
    """Nobody can be told from another."""
    queue = admission(model=80)
    for _ in range(80):
        queue.acquire("a", 1, 0)


def test_one_request_may_still_take_all_of_an_idle_queue() -> None:
    """Else it could never be answered."""
    admission(model=80).acquire("a", 80, 0, flow=FLOOD)


def test_one_model_cannot_take_all_of_the_server() -> None:
    """Whatever its own queue would hold; one that is alone may."""
    queue = Admission(80)
    queue.add("flooded", 1000)
    queue.add("other", 1000)
    assert len(fill(queue, "flooded", ("", 0))) == 70
    queue.acquire("other", 10, 0)
    with pytest.raises(Overloaded, match="server's queue is full"):
        queue.acquire("other", 1, 0)
    assert len(fill(admission(model=1000, total=80), "a", ("", 0))) == 80


def test_shares_are_by_weight() -> None:
    """A model of high priority has all but the last places of a full server, one beside it those."""
    queue = Admission(90)
    queue.add("low", 1000)
    queue.add("high", 1000, weight=weight_of(1))
    held = deque(fill(queue, "low", ("", 0)))
    num_high = 0
    for _ in range(200):
        num_high += len(fill(queue, "high", ("", 0)))
        if held:
            queue.release(held.popleft(), 0, waited_s=None)
        held += fill(queue, "low", ("", 0))
    assert num_high == 79
    assert len(held) == 10


REQUESTS = st.tuples(
    st.sampled_from(["a", "b"]), st.sampled_from([("", 0), FLOOD, POLITE, ("low", -1)]), st.integers(1, 30)
)


@given(steps=st.lists(st.one_of(REQUESTS, st.integers(0, 50)), max_size=60))
def test_permits_are_neither_lost_nor_made(steps: list[tuple[str, Flow, int] | int]) -> None:
    """Whatever is asked for and given back: never more than there are; and in the end all are there again."""
    queue = Admission(40)
    queue.add("a", 20)
    queue.add("b", 40)
    held: list[Permit] = []
    for step in steps:
        if isinstance(step, tuple):
            model_id, flow, num_items = step
            before = queue.in_use(model_id)
            try:
                held.append(queue.acquire(model_id, num_items, 0, flow=flow, weight=weight_of(flow[1])))
            except (Overloaded, InputTooLarge):
                assert queue.in_use(model_id) == before
        elif held:
            queue.release(held.pop(step % len(held)), 0, waited_s=0.1)
        assert queue.in_use("a") == sum(one.num_items for one in held if one.model_id == "a") <= 20
        assert queue.in_use("a") + queue.in_use("b") == sum(one.num_items for one in held) <= 40
    for permit in held:
        queue.release(permit, 0, waited_s=None)
    queue.acquire("b", 40, 0)


# Time


def test_what_would_wait_too_long_is_refused_with_how_much_too_long() -> None:
    """Six were waited for for six seconds: that is two seconds more than four."""
    queue = admission()
    queue.release(queue.acquire("a", 6, 0), 6, waited_s=6)
    queue.acquire("a", 5, 4)
    with pytest.raises(Overloaded, match=r'"a" would begin with it in about 6 s; at most 4 s are waited') as raised:
        queue.acquire("a", 1, 4, max_wait_s=4)
    assert raised.value.retry_after_s == pytest.approx(2)
    queue.acquire("a", 1, 4, max_wait_s=7)


def test_an_idle_model_refuses_nobody() -> None:
    """However long it takes: what it computes for one it computes for no other."""
    queue = admission()
    queue.release(queue.acquire("a", 1, 0), 60, waited_s=60)
    queue.acquire("a", 1, 60, max_wait_s=1)


def test_an_unknown_model_refuses_nobody() -> None:
    """Nor one of which nothing was known for a minute, nor by what was given up."""
    queue = admission(model=100)
    queue.release(queue.acquire("a", 50, 0), 50, waited_s=None)
    for _ in range(10):
        queue.acquire("a", 1, 50, max_wait_s=0.001)
    queue.release(queue.acquire("a", 1, 50), 51, waited_s=1)
    with pytest.raises(Overloaded):
        queue.acquire("a", 1, 60, max_wait_s=0.5)
    queue.acquire("a", 1, 112, max_wait_s=0.5)


def test_one_clients_wait_is_not_anothers() -> None:
    """Behind a flood, in fair order, one item waits for one of the flood's."""
    queue = admission(model=1000, total=1000)
    for _ in range(3):
        queue.release(queue.acquire("a", 100, 0, flow=FLOOD), 10, waited_s=10)
    queue.acquire("a", 200, 10, flow=FLOOD)
    with pytest.raises(Overloaded):
        queue.acquire("a", 1, 10, flow=FLOOD, max_wait_s=5)
    assert queue.acquire("a", 1, 10, flow=POLITE, max_wait_s=5).num_up_to == 2
    assert queue.acquire("a", 10, 10, flow=POLITE, max_wait_s=5).num_up_to == 22


def test_many_are_not_guessed_from_few() -> None:
    """One took a second: 64 at once may wait no longer where a batch holds as many; 640 wait for nine batches."""
    pace = Pace(batch_items=64)
    assert pace.seconds_for(1, 0) is None
    pace.learn(1, 0.1, 1.0, 0)
    assert pace.seconds_for(1, 0) == pace.seconds_for(64, 0) == 0.1
    assert pace.seconds_for(640, 0) == pytest.approx(0.1 + 9 * 1.0)
    pace.learn(100, 3.0, 4.0, 0)
    assert pace.seconds_for(100, 0) == pytest.approx(3)
    assert pace.seconds_for(64, 0) == 0.1


def test_few_are_guessed_from_many() -> None:
    """Where few were not seen: at least in proportion."""
    pace = Pace(batch_items=64)
    pace.learn(1000, 10.0, 11.0, 0)
    assert pace.seconds_for(10, 0) == pytest.approx(0.1, rel=0.2)


def test_one_that_was_lucky_says_little() -> None:
    """It came when a forward ended; those that came when there were fewer waited longer."""
    pace = Pace(batch_items=64)
    pace.learn(100, 3.0, 4.0, 0)
    pace.learn(200, 0.1, 1.1, 0)
    assert pace.seconds_for(200, 0) == 3.0


def test_a_changed_speed_is_learned() -> None:
    """Within a few seconds of traffic."""
    pace = Pace(batch_items=1)
    for second in range(30):
        pace.learn(1, 1.0, 1.0, second)
    for second in range(30, 60):
        pace.learn(1, 5.0, 5.0, second)
    assert pace.seconds_for(1, 60) == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize(("used", "waited_s", "wanted"), [(30, 15.0, 10), (30, 1.0, 1), (30, 900.0, 60)])
def test_retry_after_is_what_the_queue_needs(used: int, waited_s: float, wanted: float) -> None:
    """For twenty items of thirty: at its speed, no shorter than a second, no longer than a minute."""
    queue = admission(model=used)
    queue.release(queue.acquire("a", used, 0), 0, waited_s=waited_s)
    queue.acquire("a", used, 0)
    with pytest.raises(Overloaded) as raised:
        queue.acquire("a", 20, 0)
    assert raised.value.retry_after_s == pytest.approx(wanted)


def test_an_unknown_speed_gives_a_second() -> None:
    """What was given up tells nothing."""
    queue = admission()
    queue.release(queue.acquire("a", 5, 0), 50, waited_s=None)
    queue.acquire("a", 10, 50)
    with pytest.raises(Overloaded) as raised:
        queue.acquire("a", 10, 50)
    assert raised.value.retry_after_s == 1.0


class Served:
    """A server that computes batches of up to 64, one after the other, and what clients see of it that come
    whenever they like."""

    def __init__(self, *, overhead_s: float, item_s: float, max_wait_s: float) -> None:
        self.capacity = 64 / (overhead_s + 64 * item_s)
        self._overhead_s, self._item_s, self._max_wait_s = overhead_s, item_s, max_wait_s
        self._admission = Admission(8192)
        self._admission.add("a", 2048, batch_items=64)
        self._waiting: deque[tuple[Permit, float]] = deque()
        self._batch: list[tuple[Permit, float]] = []
        self._random = random.Random(7)
        self._begun_at = 0.0
        self._done_at = math.inf
        self._now = 0.0

    def run(self, rate: float, seconds: float) -> tuple[list[float], int]:
        """Latencies of those that were let in, once it runs evenly, and how many were refused."""
        latencies: list[float] = []
        num_refused = 0
        begin = next_at = self._now
        while self._now < begin + seconds:
            self._now = min(next_at, self._done_at)
            if self._now == self._done_at:
                for permit, came_at in self._batch:
                    self._admission.release(
                        permit, self._now, waited_s=self._begun_at - came_at, took_s=self._now - came_at
                    )
                    if came_at > begin + seconds / 2:
                        latencies.append(self._now - came_at)
                self._done_at = math.inf
            else:
                next_at += self._random.expovariate(rate)
                try:
                    permit = self._admission.acquire("a", 1, self._now, max_wait_s=self._max_wait_s)
                    self._waiting.append((permit, self._now))
                except Overloaded:
                    num_refused += 1
            if self._done_at == math.inf and self._waiting:
                self._batch = [self._waiting.popleft() for _ in range(min(64, len(self._waiting)))]
                self._begun_at = self._now
                self._done_at = self._now + self._overhead_s + self._item_s * len(self._batch)
        return sorted(latencies), num_refused


@pytest.mark.parametrize(("overhead_s", "item_s"), [(0.01, 0.02), (0.05, 0.002), (0.3, 0.0005)])
def test_ten_times_the_capacity_is_as_fast_as_the_capacity(overhead_s: float, item_s: float) -> None:
    """p99 of those that are let in within twice of that at capacity, nearly as many answered as can be, and nobody
    refused at half of it: whether computing more at once takes more time or hardly any."""
    full_batch_s = overhead_s + 64 * item_s
    server = Served(overhead_s=overhead_s, item_s=item_s, max_wait_s=full_batch_s)
    _, num_refused = server.run(server.capacity / 2, 10 * full_batch_s)
    assert num_refused == 0
    seconds = 80 * full_batch_s
    at_capacity, _ = server.run(server.capacity, seconds)
    flooded, num_refused = server.run(server.capacity * 10, seconds)
    assert flooded[int(len(flooded) * 0.99)] <= 2 * at_capacity[int(len(at_capacity) * 0.99)]
    assert flooded[-1] <= 3 * full_batch_s
    assert len(flooded) >= 0.9 * server.capacity * seconds / 2
    assert num_refused >= 8.5 * server.capacity * seconds
