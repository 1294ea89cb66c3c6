"""The batch queue: pure, so its promises are checked directly."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.base import Item
from app.worker.batch_queue import CALM_S, BatchQueue, Entry, batch_cost


def entry(
    job_id: int,
    cost: int = 1,
    *,
    group: Hashable = None,
    alone: bool = False,
    arrived_at: float = 0.0,
    task: str = "fill-mask",
    is_unpadded: bool = False,
    client: str = "",
    weight: float = 1.0,
    priority: int = 0,
) -> Entry:
    item = Item(None, cost, group, is_unpadded=is_unpadded)
    return Entry(job_id, task, item, arrived_at, alone, flow=(client, priority), weight=weight)


def queue_of(entries: list[Entry], *, max_items: int = 64, max_tokens: int = 16384, **options: float) -> BatchQueue:
    queue = BatchQueue(
        max_items=max_items,
        max_tokens=max_tokens,
        max_wait_s=options.get("max_wait_s", 0.0),
        overhead_tokens=int(options.get("overhead_tokens", 64)),
    )
    queue.push(entries)
    return queue


def jobs(batch: list[Entry]) -> list[int]:
    return sorted({entry.job_id for entry in batch})


def test_nothing_waits_nothing_is_taken() -> None:
    """An empty queue gives an empty batch and needs no waking."""
    queue = queue_of([])
    assert queue.take(0.0) == []
    assert queue.ready_at() is None


def test_what_waits_is_taken_at_once() -> None:
    """Without max_wait a single item does not wait for company."""
    queue = queue_of([entry(1)])
    assert jobs(queue.take(0.0)) == [1]
    assert len(queue) == 0


def test_equal_items_fill_a_batch() -> None:
    """Items of one length share a forward up to max_items."""
    queue = queue_of([entry(index, 10) for index in range(10)], max_items=8)
    assert jobs(queue.take(0.0)) == list(range(8))
    assert jobs(queue.take(0.0)) == [8, 9]


def test_groups_do_not_mix() -> None:
    """Items of different forward parameters run apart, the oldest group first."""
    queue = queue_of([entry(1, group="a"), entry(2, group="b"), entry(3, group="a")])
    assert jobs(queue.take(0.0)) == [1, 3]
    assert jobs(queue.take(0.0)) == [2]


def test_tasks_do_not_mix() -> None:
    """Two tasks of one model run apart though their groups are equal."""
    queue = queue_of([entry(1), entry(2, task="feature-extraction")])
    assert jobs(queue.take(0.0)) == [1]
    assert jobs(queue.take(0.0)) == [2]


def test_an_alone_job_shares_with_nobody() -> None:
    """All items of an alone job may share a forward, with no other job's, alone ones included."""
    queue = queue_of([entry(1), entry(2, alone=True), entry(2, alone=True), entry(3, alone=True), entry(4)])
    assert [jobs(queue.take(0.0)) for _ in range(4)] == [[1, 4], [2], [3], []]


def test_the_padded_cost_stays_in_the_budget() -> None:
    """max(cost) * n is what is limited, not the sum of the costs."""
    queue = queue_of([entry(1, 100), entry(2, 99), entry(3, 10)], max_tokens=299)
    assert jobs(queue.take(0.0)) == [1, 2]
    assert jobs(queue.take(0.0)) == [3]


def test_an_item_above_the_budget_runs_alone() -> None:
    """It is not refused, and takes nobody with it."""
    queue = queue_of([entry(1, 500), entry(2, 1)], max_tokens=100)
    assert jobs(queue.take(0.0)) == [1]
    assert jobs(queue.take(0.0)) == [2]


def test_neighbours_in_length_share() -> None:
    """Two short and two long texts are two forwards when their padding would cost more than a forward."""
    queue = queue_of([entry(1, 10), entry(2, 500), entry(3, 10), entry(4, 500)])
    assert jobs(queue.take(0.0)) == [1, 3]
    assert jobs(queue.take(0.0)) == [2, 4]


def test_short_texts_share_though_their_lengths_differ() -> None:
    """Where a forward costs more than the padding, items of different lengths run together."""
    queue = queue_of([entry(1, 5), entry(2, 12), entry(3, 8), entry(4, 20)])
    assert jobs(queue.take(0.0)) == [1, 2, 3, 4]


def test_without_padding_the_oldest_share_whatever_their_lengths() -> None:
    """No forward is saved by sorting; the sum of the costs is what is limited, and the first is always in."""
    waiting = [entry(index, cost, is_unpadded=True) for index, cost in enumerate([500, 10, 400, 10, 80, 10])]
    queue = queue_of([*waiting, entry(6, 2000, is_unpadded=True), entry(7, 1, is_unpadded=True)], max_tokens=1000)
    assert jobs(queue.take(0.0)) == [0, 1, 2, 3, 4]
    assert jobs(queue.take(0.0)) == [5]
    assert jobs(queue.take(0.0)) == [6]
    assert jobs(queue.take(0.0)) == [7]


def test_without_padding_a_batch_has_its_most_items() -> None:
    """Those of a job that was dropped do not count."""
    queue = queue_of([entry(index, index, is_unpadded=True) for index in range(1, 8)], max_items=3)
    queue.drop(2)
    assert [jobs(queue.take(0.0)) for _ in range(3)] == [[1, 3, 4], [5, 6, 7], []]
    assert len(queue) == 0


def test_without_padding_many_short_and_one_long_are_bounded() -> None:
    """At the end of their forward their vectors lie side by side, as wide as the longest."""
    short = [entry(index, 1, is_unpadded=True) for index in range(60)]
    queue = queue_of([*short, entry(60, 50, is_unpadded=True)], max_tokens=200)
    assert jobs(queue.take(0.0)) == list(range(60))
    assert jobs(queue.take(0.0)) == [60]


def test_age_wins_over_length() -> None:
    """The oldest item is served next, however many neighbours the others have."""
    queue = queue_of([entry(0, 500)] + [entry(index, 10) for index in range(1, 50)])
    assert 0 in jobs(queue.take(0.0))


@pytest.mark.parametrize("is_unpadded", [False, True])
def test_a_polite_client_does_not_wait_behind_a_flood(is_unpadded: bool) -> None:
    """Its one item is in the next batch, whatever came before it and how long it is."""
    flood = [entry(index, 10, client="flood", is_unpadded=is_unpadded) for index in range(200)]
    queue = queue_of(flood, max_items=8)
    queue.take(0.0)
    queue.push([entry(1000, 70, client="polite", is_unpadded=is_unpadded)])
    assert 1000 in jobs(queue.take(0.0)) + jobs(queue.take(0.0))


@pytest.mark.parametrize("is_unpadded", [False, True])
def test_a_batch_is_shared_by_weight(is_unpadded: bool) -> None:
    """Items of like lengths share forwards, and each client has its part of these."""
    queue = queue_of([], max_items=8)
    queue.push(entry(1, 10, client="flood", is_unpadded=is_unpadded) for _ in range(400))
    queue.push(entry(2, 12, client="double", weight=2.0, is_unpadded=is_unpadded) for _ in range(400))
    taken = [row.job_id for _ in range(40) for row in queue.take(0.0)]
    assert 190 <= taken.count(2) <= 230


@pytest.mark.parametrize("is_unpadded", [False, True])
@pytest.mark.parametrize(("seconds_per_token", "num_low"), [(1.0, 2), (0.002, 5), (0.0001, 16), (0.0, 16)])
def test_low_priority_does_not_fill_batches_while_others_come(
    is_unpadded: bool, seconds_per_token: float, num_low: int
) -> None:
    """They would wait for the end of such a forward. An eighth of it, or as much as is computed in a moment; all of it
    where no pace is known, and when nobody else has come for a while."""
    queue = BatchQueue(max_items=16, max_tokens=1000, seconds_for=lambda task, cost: cost * seconds_per_token)
    queue.push([entry(100, 10, is_unpadded=is_unpadded)])
    assert jobs(queue.take(0.0)) == [100]
    queue.push(entry(index, 10, priority=-1, weight=1 / 8, is_unpadded=is_unpadded) for index in range(90))
    assert len(queue.take(CALM_S - 0.1)) == num_low
    queue.push([entry(101, 10, arrived_at=1.0, is_unpadded=is_unpadded)])
    assert jobs(queue.take(1.0))[-1] == 101
    assert len(queue.take(CALM_S)) == num_low
    assert len(queue.take(CALM_S + 1.0)) == 16


def test_many_of_normal_priority_leave_low_its_places() -> None:
    """Not more, and in turn."""
    queue = BatchQueue(max_items=16, max_tokens=1000, seconds_for=lambda task, cost: cost)
    queue.push(entry(index, 10, priority=-1, weight=1 / 8) for index in range(20))
    queue.push(entry(100 + index, 10) for index in range(40))
    taken = [queue.take(0.0) for _ in range(3)]
    assert all(1 <= sum(one.flow[1] < 0 for one in batch) <= 2 for batch in taken)
    assert sum(len(batch) for batch in taken) >= 40


def test_like_lengths_are_no_way_past_others() -> None:
    """A flood whose lengths fill the batches of a client that has few items waiting gets no more than a batch ahead."""
    queue = queue_of([entry(index, 10, client="flood") for index in range(200)], max_items=8, overhead_tokens=32)
    queue.push(entry(1000 + index, 12, client="polite") for index in range(20))
    batches = [jobs(queue.take(0.0)) for _ in range(6)]
    assert sum(job_id >= 1000 for batch in batches for job_id in batch) == 20


def test_who_shares_forwards_with_nobody_pays_for_them() -> None:
    """Requests whose parameters all differ take a forward each, whose overhead is theirs."""
    queue = queue_of([], max_items=8, overhead_tokens=90)
    queue.push(entry(index, 10, client="odd", group=index) for index in range(100))
    queue.push(entry(1000 + index, 10, client="even") for index in range(400))
    batches = [jobs(queue.take(0.0)) for _ in range(30)]
    odd = sum(job_id < 1000 for batch in batches for job_id in batch)
    assert 15 <= odd <= 20
    assert sum(map(len, batches)) - odd >= 80


def test_more_is_prepared_for_those_of_whom_nothing_waits() -> None:
    """A full window of one client's items is no reason to leave the others unprepared."""
    queue = queue_of([entry(index, client="flood") for index in range(32)], max_items=8)
    assert queue.is_stocked(("flood", 0))
    assert not queue.is_stocked(("polite", 0))
    queue.push([entry(1000, client="polite")])
    assert queue.is_stocked(("polite", 0))
    queue.drop(1000)
    assert not queue.is_stocked(("polite", 0))


def test_rows_are_sorted_by_length() -> None:
    """A batch comes in ascending cost."""
    batch = queue_of([entry(1, 9), entry(2, 3), entry(3, 6)]).take(0.0)
    assert [row.item.cost for row in batch] == [3, 6, 9]


def test_a_large_job_is_split() -> None:
    """A client's batch above max_items leaves in several, and small jobs get in between."""
    queue = queue_of([entry(1, 10) for _ in range(20)], max_items=8)
    queue.push([entry(2, 10)])
    sizes = []
    while batch := queue.take(0.0):
        sizes.append(len(batch))
    assert sizes == [8, 8, 5]


def test_a_dropped_job_leaves_nothing() -> None:
    """Its items are neither counted nor taken; dropping what is not there is harmless."""
    queue = queue_of([entry(1), entry(2), entry(1), entry(3, group="b")])
    queue.drop(1)
    queue.drop(3)
    queue.drop(77)
    assert len(queue) == 1
    assert jobs(queue.take(0.0)) == [2]
    assert queue.take(0.0) == []
    assert len(queue) == 0


def test_max_wait_holds_a_small_batch() -> None:
    """With max_wait an item waits for company until its time is up."""
    queue = queue_of([entry(1, arrived_at=5.0)], max_wait_s=0.01)
    assert queue.take(5.0) == []
    assert queue.ready_at() == pytest.approx(5.01)
    assert jobs(queue.take(5.01)) == [1]


@pytest.mark.parametrize("limits", [{"max_items": 2}, {"max_tokens": 20}])
def test_a_full_batch_does_not_wait(limits: dict[str, int]) -> None:
    """Nothing is gained by waiting once max_items or max_tokens is reached."""
    queue = queue_of([entry(1, 10), entry(2, 10)], max_wait_s=60, **limits)
    assert jobs(queue.take(0.0)) == [1, 2]


def test_a_full_group_does_not_wait_for_another() -> None:
    """An older group that waits for company does not hold up one that is full."""
    queue = queue_of([entry(1, group="a"), entry(2, group="b"), entry(3, group="b")], max_items=2, max_wait_s=60)
    assert jobs(queue.take(0.0)) == [2, 3]


def test_an_alone_job_waits_for_no_company() -> None:
    """It would wait in vain."""
    queue = queue_of([entry(1, alone=True)], max_wait_s=60)
    assert jobs(queue.take(0.0)) == [1]


ENTRIES = st.builds(
    lambda job_id, cost, group, alone: entry(
        job_id * 2 + alone, cost, group=group, alone=alone, is_unpadded=group == "unpadded"
    ),
    st.integers(0, 6),
    st.integers(0, 60),
    st.sampled_from(["a", "b", "unpadded"]),
    st.booleans(),
)
STEPS = st.lists(st.one_of(st.lists(ENTRIES, max_size=12), st.just("take"), st.integers(0, 13)), max_size=30)


@given(steps=STEPS, max_items=st.integers(1, 6), max_tokens=st.integers(1, 120), overhead=st.integers(1, 100))
def test_every_item_leaves_exactly_once(
    steps: list[list[Entry] | str | int], max_items: int, max_tokens: int, overhead: int
) -> None:
    """Over any pushes, takes and drops: once each, within the budgets, unmixed, the oldest always in the next batch."""
    queue = BatchQueue(max_items=max_items, max_tokens=max_tokens, overhead_tokens=overhead)
    waiting: list[Entry] = []
    dropped: set[int] = set()

    def take() -> bool:
        batch = queue.take(0.0)
        assert bool(batch) == bool(waiting)
        if not batch:
            return False
        assert waiting[0] in batch
        assert len(batch) <= max_items
        assert len(batch) == 1 or batch_cost([row.item for row in batch]) <= max_tokens
        assert len({row.lane for row in batch}) == 1
        assert len(jobs(batch)) == 1 or not any(row.alone for row in batch)
        for row in batch:
            waiting.remove(row)
        return True

    for step in steps:
        if isinstance(step, list):
            fresh = [Entry(row.job_id, row.task, row.item, 0.0, row.alone) for row in step if row.job_id not in dropped]
            queue.push(fresh)
            waiting += fresh
        elif isinstance(step, int):
            queue.drop(step)
            dropped.add(step)
            waiting[:] = [row for row in waiting if row.job_id != step]
        else:
            take()
        assert len(queue) == len(waiting)
    while take():
        pass
    assert not waiting
    assert len(queue) == 0


COSTS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 1)), min_size=1, max_size=60)


@given(
    costs=st.fixed_dictionaries({"a": COSTS, "b": COSTS}),
    weight=st.sampled_from([0.5, 1.0, 4.0]),
    max_items=st.integers(1, 8),
    overhead=st.integers(1, 40),
    is_unpadded=st.booleans(),
)
def test_clients_differ_by_no_more_than_a_few_batches(
    costs: dict[str, list[tuple[int, int]]], weight: float, max_items: int, overhead: int, is_unpadded: bool
) -> None:
    """In what was computed for each, by their weights, as long as both have something waiting: in lanes of their own
    or the same ones, with lengths that suit a batch or do not."""
    weights = {"a": 1.0, "b": weight}
    queue = queue_of([], max_items=max_items, max_tokens=10_000, overhead_tokens=overhead)
    waiting = {name: len(rows) for name, rows in costs.items()}
    for name, rows in costs.items():
        queue.push(
            entry(ord(name), cost, group=lane, client=name, weight=weights[name], is_unpadded=is_unpadded)
            for cost, lane in rows
        )
    longest = max(cost for rows in costs.values() for cost, _ in rows)
    batch = (max_items * longest + overhead) / min(weights.values())
    served = {"a": 0.0, "b": 0.0}
    while all(waiting.values()):
        taken = queue.take(0.0)
        items = [one.item for one in taken]
        for one in taken:
            waiting[one.flow[0]] -= 1
            cost = one.item.cost if is_unpadded else batch_cost(items) / len(items)
            served[one.flow[0]] += (cost + overhead / len(items)) / weights[one.flow[0]]
        assert abs(served["a"] - served["b"]) <= 3 * batch
