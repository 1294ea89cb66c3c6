"""Who goes first where work waits: shares by weight, nobody starved, no credit for silence."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fairness import NOBODY, PRIORITIES, FairQueue, Flow, VirtualTime, weight_of

A: Flow = ("a", 0)
B: Flow = ("b", 0)
FLOWS: list[Flow] = [("a", 0), ("b", 0), ("b", 1), ("c", -1)]


def queue_of(*pushed: tuple[Flow, int], weight: float = 1.0, cost: float = 1.0) -> FairQueue[str]:
    """So many of each flow, named by the flow's client and a number."""
    queue: FairQueue[str] = FairQueue()
    for flow, number in pushed:
        for index in range(number):
            queue.push(f"{flow[0]}{index}", flow, weight=weight, cost=cost)
    return queue


def drain(queue: FairQueue[str]) -> list[str]:
    taken = []
    while (item := queue.pop()) is not None:
        taken.append(item)
    return taken


def test_one_client_is_served_in_its_order() -> None:
    """Without others the queue is a queue."""
    assert drain(queue_of((A, 4))) == ["a0", "a1", "a2", "a3"]


def test_one_that_comes_after_a_flood_is_next_but_one() -> None:
    """Of a thousand that came before it, one goes before it."""
    queue = queue_of((A, 1000), (B, 2))
    assert drain(queue)[:4] == ["a0", "b0", "a1", "b1"]


def test_what_costs_more_goes_less_often() -> None:
    """Shares are of the work, not of its pieces."""
    queue = queue_of((A, 8))
    queue.push("b0", B, weight=1, cost=4)
    queue.push("b1", B, weight=1, cost=4)
    assert drain(queue) == ["a0", "b0", "a1", "a2", "a3", "a4", "b1", "a5", "a6", "a7"]


def test_silence_is_no_credit() -> None:
    """Who had nothing waiting while another was served does not get that now."""
    queue = queue_of((A, 100))
    for _ in range(50):
        queue.pop()
    for index in range(50):
        queue.push(f"b{index}", B, weight=1, cost=1)
    assert Counter(item[0] for item in drain(queue)[:20]) == {"a": 10, "b": 10}


def test_one_large_piece_after_the_other_is_no_way_to_get_more() -> None:
    """Though none of them waits when the next one is served."""
    queue = queue_of((A, 100))
    taken = []
    for number in range(30):
        if number % 2 == 0:
            queue.push("b", B, weight=1, cost=9)
        taken.append(queue.pop())
    assert taken.count("b") in (3, 4)


def test_what_was_served_while_nobody_waited_is_forgotten() -> None:
    """An idle server owes and is owed nothing."""
    queue = queue_of((A, 10))
    drain(queue)
    for index in range(3):
        queue.push(f"a{index}", A, weight=1, cost=1)
        queue.push(f"b{index}", B, weight=1, cost=1)
    assert drain(queue) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_priorities_are_shares() -> None:
    """Eight times as much a step, as long as all have work waiting; and what is low goes on."""
    queue: FairQueue[str] = FairQueue()
    for name, priority in PRIORITIES.items():
        for _ in range(2000):
            queue.push(name, ("a", priority), weight=weight_of(priority), cost=1)
    first = Counter(queue.pop() for _ in range(730))
    assert first == {"high": pytest.approx(640, abs=2), "normal": pytest.approx(80, abs=2), "low": first["low"]}
    assert first["low"] == pytest.approx(10, abs=2)


def test_urgent_requests_of_a_client_overtake_its_others() -> None:
    """They are a flow of their own."""
    queue = queue_of((("a", 0), 10))
    queue.push("urgent", ("a", 1), weight=weight_of(1), cost=1)
    assert drain(queue)[1] == "urgent"


def test_what_is_not_wanted_any_more_is_left_out() -> None:
    """At the front and in the midst, whatever the flow."""
    gone: set[str] = set()
    queue: FairQueue[str] = FairQueue(is_live=lambda item: item not in gone)
    for flow, items in ((A, ["a0", "a1", "a2", "a3"]), (B, ["b0", "b2", "b3"])):
        for item in items:
            queue.push(item, flow, weight=1, cost=1)
    left = "one that leaves"
    queue.push(left, B, weight=1, cost=1)
    gone |= {"a0", "a2", "b3"}
    queue.discard(left, B)
    queue.discard(left, B)
    assert [place.item for place in queue.in_order()] == ["a1", "b0", "a3", "b2"]
    assert drain(queue) == ["a1", "b0", "a3", "b2"]


def test_flows_that_are_far_ahead_can_be_left_out() -> None:
    """Those that had more than so much beyond the first's."""
    queue = queue_of((A, 5), (B, 5))
    queue.time.charge(A, 3, 1)
    assert {place.flow for place in queue.in_order(ahead=2)} == {B}
    assert {place.flow for place in queue.in_order(ahead=3)} == {A, B}


def test_only_flows_that_are_ahead_are_remembered() -> None:
    """A server sees more clients than it has room for."""
    time = VirtualTime()
    for number in range(1000):
        time.charge((f"client {number}", 0), 1, 1)
        time.advance(time.start_of(NOBODY) + 1)
    assert len(time._starts) <= 1


PUSHES = st.lists(st.tuples(st.sampled_from(FLOWS), st.floats(0.5, 20)), max_size=40)
WEIGHTS = st.fixed_dictionaries({flow: st.sampled_from([0.5, 1.0, 3.0]) for flow in FLOWS})


@given(pushes=PUSHES, weights=WEIGHTS, num_before=st.integers(0, 10))
def test_what_is_foreseen_is_what_comes(
    pushes: list[tuple[Flow, float]], weights: dict[Flow, float], num_before: int
) -> None:
    """`in_order` tells the order of `pop`, and that is each flow's own order."""
    queue: FairQueue[int] = FairQueue()
    for number, (flow, cost) in enumerate(pushes):
        queue.push(number, flow, weight=weights[flow], cost=cost)
    for _ in range(num_before):
        queue.pop()
    foreseen = [place.item for place in queue.in_order()]
    popped = []
    while (item := queue.pop()) is not None:
        popped.append(item)
    assert popped == foreseen
    for flow in FLOWS:
        own = [number for number in popped if pushes[number][0] == flow]
        assert own == sorted(own)


@given(
    costs=st.fixed_dictionaries(
        {A: st.lists(st.floats(0.5, 20), min_size=1), B: st.lists(st.floats(0.5, 20), min_size=1)}
    ),
    weight=st.sampled_from([0.25, 1.0, 8.0]),
    late_by=st.integers(0, 20),
)
def test_shares_differ_by_no_more_than_a_piece_of_each(
    costs: dict[Flow, list[float]], weight: float, late_by: int
) -> None:
    """The bound of start-time fair queueing, over every interval in which both have work waiting. B comes later."""
    weights = {A: 1.0, B: weight}
    queue: FairQueue[Flow] = FairQueue()
    for cost in costs[A]:
        queue.push(A, A, weight=1, cost=cost)
    for _ in range(late_by):
        queue.pop()
    for cost in costs[B]:
        queue.push(B, B, weight=weight, cost=cost)
    bound = sum(max(costs[flow]) / weights[flow] for flow in (A, B)) + 1e-6
    differences = [0.0]
    while len({place.flow for place in queue.heads()}) == 2:
        found = queue.first()
        assert found is not None
        place = found[1]
        queue.take(place)
        served = place.cost / place.weight
        differences.append(differences[-1] + (served if place.flow == A else -served))
    assert max(differences) - min(differences) <= bound
