"""Which items share a forward: pure and synchronous, time is passed in.

Items wait in fair order (`app/fairness.py`): by the share of the device that their clients have had, and each client's
in order of arrival. The first is in the next batch, always: so no item waits for ever. Around it, among the first items
that may share its forward (a bounded window), the batch is a run of neighbours in length; or, where no forward computes
padding, simply the first.

While others come, work of low priority does not fill a batch: its share of the device is kept by the order, but whoever
comes while a forward runs waits for the end of it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from app.fairness import NOBODY, NORMAL, PRIORITY_TIMES, FairQueue, Flow, Place, VirtualTime
from app.runtime.base import Item

WINDOW_BATCHES = 4
UNPADDED_TIMES = 4
"""Items that are not padded may be so many times the budget if they were: their forward ends with their vectors side by
side, which is then no more memory than a layer takes inside, where it is four times as wide."""

SHORT_FORWARD_S = 0.1
"""While others come, low priority has an eighth of the places in a batch, as of the device; or more, as long as by the
pace of the fastest forwards this one is so short, as full ones are on an accelerator."""
CALM_S = 10.0
"""When nothing but low priority has come for so long, its forwards are as full as any."""


def batch_cost(items: Sequence[Item]) -> int:
    """Of one forward, its padding included. items: of one lane."""
    costs = [item.cost for item in items]
    return sum(costs) if items[0].is_unpadded else max(costs) * len(costs)


@dataclass(slots=True, eq=False)
class Entry:
    """An item of a job while it waits: row `position` of the job's input `input_index`."""

    job_id: int
    task: str
    item: Item
    arrived_at: float
    alone: bool = False
    input_index: int = 0
    position: int = 0
    flow: Flow = NOBODY
    weight: float = 1.0  # of the flow

    @property
    def lane(self) -> Hashable:
        """Entries of equal lanes may share a forward. An `alone` job has lanes of its own."""
        return self.task, self.item.group, self.item.adapter, self.job_id if self.alone else None


@dataclass(slots=True)
class _WaitingJob:
    flow: Flow
    num_items: int = 0


class _WaitingLane(NamedTuple):
    start: float
    first: Place[Entry]
    lane: FairQueue[Entry]


class BatchQueue:
    """Prepared items that wait for the device. Owned by the worker's coordinator.

    overhead_tokens: what a forward costs before its first token, in tokens: padding is worth that much to save one.
    seconds_for: how long a forward of a task and a cost takes at least, as far as is known.
    """

    def __init__(
        self,
        *,
        max_items: int,
        max_tokens: int,
        max_wait_s: float = 0.0,
        overhead_tokens: int = 64,
        seconds_for: Callable[[str, int], float] = lambda task, cost: 0.0,
    ) -> None:
        self._max_items = max(1, max_items)
        self._max_tokens = max_tokens
        self._max_wait_s = max_wait_s
        self._overhead_tokens = overhead_tokens
        self._seconds_for = seconds_for
        self._time = VirtualTime()
        self._lanes: dict[Hashable, FairQueue[Entry]] = {}
        self._jobs: dict[int, _WaitingJob] = {}  # that have items here; a dropped job has none
        self._flows: dict[Flow, int] = {}  # their waiting items
        self._num_waiting = 0
        self._next_order = 0
        self._calm_at = 0.0  # if nothing comes until then but what is of low priority

    def __len__(self) -> int:
        return self._num_waiting

    def is_stocked(self, flow: Flow) -> bool:
        """Whether more of this flow need not be prepared ahead of the device: as many items wait as are looked at for
        one batch, some of them the flow's."""
        return self._num_waiting >= WINDOW_BATCHES * self._max_items and flow in self._flows

    def push(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            key = entry.lane
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = FairQueue(self._time, self._is_waiting)
            lane.push(entry, entry.flow, weight=entry.weight, cost=entry.item.cost, order=self._next_order)
            self._next_order += 1
            job = self._jobs.get(entry.job_id)
            if job is None:
                job = self._jobs[entry.job_id] = _WaitingJob(entry.flow)
            job.num_items += 1
            self._flows[entry.flow] = self._flows.get(entry.flow, 0) + 1
            if entry.flow[1] >= NORMAL:
                self._calm_at = max(self._calm_at, entry.arrived_at + CALM_S)
            self._num_waiting += 1

    def _is_waiting(self, entry: Entry) -> bool:
        return entry.job_id in self._jobs

    def drop(self, job_id: int) -> None:
        """Forget a job's waiting items. A dropped job may not be pushed again."""
        if job_id in self._jobs:
            self._leave(job_id, self._jobs[job_id].num_items)

    def _leave(self, job_id: int, num_items: int) -> None:
        job = self._jobs[job_id]
        job.num_items -= num_items
        if not job.num_items:
            del self._jobs[job_id]
        self._flows[job.flow] -= num_items
        if not self._flows[job.flow]:
            del self._flows[job.flow]
        self._num_waiting -= num_items

    def take(self, now: float) -> list[Entry]:
        """The next batch; empty when nothing waits, or when what waits may still wait for company. To be called when
        the device is free."""
        lanes = self._lanes_in_order()
        if not lanes:
            self._time.rest()
            return []
        self._time.advance(lanes[0].start)
        for found in lanes:
            if self._is_ready(found.lane, now):
                return self._take_from(found.lane, found.first, is_calm=now >= self._calm_at)
        return []

    def ready_at(self) -> float | None:
        """When `take` gives a batch without another push; None: nothing waits."""
        arrivals = [_oldest_arrival(found.lane) for found in self._lanes_in_order()]
        return min(arrivals) + self._max_wait_s if arrivals else None

    def _lanes_in_order(self) -> list[_WaitingLane]:
        """Those in which something waits."""
        found = []
        for key, lane in list(self._lanes.items()):
            first = lane.first()
            if first is None:
                del self._lanes[key]
            else:
                found.append(_WaitingLane(*first, lane))
        if len(found) > 1:
            found.sort(key=lambda one: (one.start, one.first.order))
        return found

    def _is_ready(self, lane: FairQueue[Entry], now: float) -> bool:
        if self._max_wait_s <= 0 or now >= _oldest_arrival(lane) + self._max_wait_s:
            return True
        live = [place.item for place in lane.in_order()]
        items = [entry.item for entry in live]
        return live[0].alone or len(items) >= self._max_items or batch_cost(items) >= self._max_tokens

    def _take_from(self, lane: FairQueue[Entry], first: Place[Entry], *, is_calm: bool) -> list[Entry]:
        """The next batch of a lane, with the first that waits in it. Its forward's cost is shared by its items, the
        overhead and the padding too: whoever shares forwards with nobody pays for them alone."""
        if self._num_waiting == 1:
            places = [first]
        elif first.item.item.is_unpadded:
            places = self._first_of(lane, is_calm)
        else:
            places = self._neighbours_of(lane, first.item, is_calm)
        lane.remove(places)
        items = [place.item.item for place in places]
        overhead = self._overhead_tokens / len(items)
        padded = None if items[0].is_unpadded else batch_cost(items) / len(items)
        for place in places:
            self._time.charge(place.flow, (place.cost if padded is None else padded) + overhead, place.weight)
            self._leave(place.item.job_id, 1)
        return [place.item for place in places]

    def _first_of(self, lane: FairQueue[Entry], is_calm: bool) -> list[Place[Entry]]:
        """As many as there is room for, the first in any case."""
        batch: list[Place[Entry]] = []
        cost = longest = 0
        in_order = islice(lane.in_order(), self._max_items)
        for place in in_order if is_calm else self._little_of_low(in_order):
            own = place.item.item.cost
            cost, longest = cost + own, max(longest, own)
            side_by_side = longest * (len(batch) + 1)
            if batch and (cost > self._max_tokens or side_by_side > UNPADDED_TIMES * self._max_tokens):
                break
            batch.append(place)
        return batch

    def _neighbours_of(self, lane: FairQueue[Entry], first: Entry, is_calm: bool) -> list[Place[Entry]]:
        """Flows that have had a batch more than the first's are left out: like lengths are no reason to fall behind."""
        batch_ahead = self._max_items * first.item.cost / first.weight
        in_order = islice(lane.in_order(ahead=batch_ahead), WINDOW_BATCHES * self._max_items)
        window = list(in_order if is_calm else self._little_of_low(in_order))
        by_cost = sorted(range(len(window)), key=lambda rank: (window[rank].cost, rank))
        costs = [window[rank].item.item.cost for rank in by_cost]
        start, end = self._best_run(costs, bisect_left(costs, first.item.cost))
        return [window[rank] for rank in by_cost[start:end]]

    def _little_of_low(self, places: Iterable[Place[Entry]]) -> Iterator[Place[Entry]]:
        """Without those of low priority beyond their places, where a forward of all before them is no short one."""
        num_low_places = max(1, int(self._max_items / PRIORITY_TIMES))
        num = num_low = cost = longest = 0
        for place in places:
            item, is_low = place.item.item, place.flow[1] < NORMAL
            with_it, longest_with_it = cost + item.cost, max(longest, item.cost)
            computed = with_it if item.is_unpadded else longest_with_it * (num + 1)
            if is_low and num_low >= num_low_places:
                if self._seconds_for(place.item.task, computed) > SHORT_FORWARD_S:
                    continue
            num, cost, longest = num + 1, with_it, longest_with_it
            num_low += is_low
            yield place

    def _best_run(self, costs: Sequence[int], own: int) -> tuple[int, int]:
        """An item's part of the cheapest cut of its neighbourhood into forwards. costs: ascending; own: its place."""
        overhead = self._overhead_tokens
        first = max(own - self._max_items + 1, bisect_left(costs, costs[own] - overhead))
        last = min(own + self._max_items, bisect_right(costs, costs[own] + overhead))
        cheapest = [0] * (last + 1)  # cheapest[i]: the cost of all items from i to last
        ends = [0] * last
        for start in range(last - 1, first - 1, -1):
            cheapest[start] = costs[start] + overhead + cheapest[start + 1]
            ends[start] = start + 1
            for end in range(start + 2, min(start + self._max_items, last) + 1):
                longest = costs[end - 1]
                padded = longest * (end - start)
                # Beyond an overhead of padding for one item, a forward more is cheaper: no longer run is of use.
                if padded > self._max_tokens or longest - costs[start] > overhead:
                    break
                if padded + overhead + cheapest[end] <= cheapest[start]:
                    cheapest[start] = padded + overhead + cheapest[end]
                    ends[start] = end
        start = first
        while ends[start] <= own:
            start = ends[start]
        return start, ends[start]


def _oldest_arrival(lane: FairQueue[Entry]) -> float:
    return min(place.item.arrived_at for place in lane.heads())
