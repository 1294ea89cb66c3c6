"""Which items share a forward: pure and synchronous, time is passed in.

The oldest item is in the next batch, always: so no item waits for ever. Around it, among the oldest items that may
share its forward (a bounded window), the batch is a run of neighbours in length; or, where no forward computes padding,
simply the oldest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from app.runtime.base import Item

WINDOW_BATCHES = 4
UNPADDED_TIMES = 4
"""Items that are not padded may be so many times the budget if they were: their forward ends with their vectors side by
side, which is then no more memory than a layer takes inside, where it is four times as wide."""


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
    order: int = 0  # set by the queue: its place in the order of arrival

    @property
    def lane(self) -> Hashable:
        """Entries of equal lanes may share a forward. An `alone` job has lanes of its own."""
        return self.task, self.item.group, self.item.adapter, self.job_id if self.alone else None


class BatchQueue:
    """Prepared items that wait for the device. Owned by the worker's coordinator.

    overhead_tokens: what a forward costs before its first token, in tokens: padding is worth that much to save one.
    """

    def __init__(self, *, max_items: int, max_tokens: int, max_wait_s: float = 0.0, overhead_tokens: int = 64) -> None:
        self._max_items = max(1, max_items)
        self._max_tokens = max_tokens
        self._max_wait_s = max_wait_s
        self._overhead_tokens = overhead_tokens
        self._lanes: dict[Hashable, deque[Entry]] = {}
        self._waiting: dict[int, int] = {}  # job id -> its waiting items; a dropped job has none
        self._num_waiting = 0
        self._next_order = 0

    def __len__(self) -> int:
        return self._num_waiting

    @property
    def window(self) -> int:
        """How many items are looked at for one batch: more than this need not be prepared ahead of the device."""
        return WINDOW_BATCHES * self._max_items

    def push(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            entry.order = self._next_order
            self._next_order += 1
            self._lanes.setdefault(entry.lane, deque()).append(entry)
            self._waiting[entry.job_id] = self._waiting.get(entry.job_id, 0) + 1
            self._num_waiting += 1

    def drop(self, job_id: int) -> None:
        """Forget a job's waiting items. A dropped job may not be pushed again."""
        self._num_waiting -= self._waiting.pop(job_id, 0)

    def take(self, now: float) -> list[Entry]:
        """The next batch; empty when nothing waits, or when what waits may still wait for company."""
        for lane in self._lanes_by_age():
            if self._is_ready(lane, now):
                return self._take_from(lane)
        return []

    def ready_at(self) -> float | None:
        """When `take` gives a batch without another push; None: nothing waits."""
        heads = [lane[0].arrived_at for lane in self._lanes_by_age()]
        return min(heads) + self._max_wait_s if heads else None

    def _lanes_by_age(self) -> list[deque[Entry]]:
        for key, lane in list(self._lanes.items()):
            while lane and lane[0].job_id not in self._waiting:
                lane.popleft()
            if not lane:
                del self._lanes[key]
        return sorted(self._lanes.values(), key=lambda lane: lane[0].order)

    def _is_ready(self, lane: deque[Entry], now: float) -> bool:
        oldest = lane[0]
        if self._max_wait_s <= 0 or oldest.alone or now >= oldest.arrived_at + self._max_wait_s:
            return True
        live = [entry.item for entry in lane if entry.job_id in self._waiting]
        return len(live) >= self._max_items or batch_cost(live) >= self._max_tokens

    def _take_from(self, lane: deque[Entry]) -> list[Entry]:
        """The next batch of a lane that begins with an item that waits."""
        batch = self._oldest_of(lane) if lane[0].item.is_unpadded else self._neighbours_of(lane)
        self._forget(batch)
        return batch

    def _oldest_of(self, lane: deque[Entry]) -> list[Entry]:
        """As many as there is room for, the first in any case."""
        batch: list[Entry] = []
        cost = longest = 0
        while lane and len(batch) < self._max_items:
            entry = lane[0]
            if entry.job_id in self._waiting:
                cost, longest = cost + entry.item.cost, max(longest, entry.item.cost)
                side_by_side = longest * (len(batch) + 1)
                if batch and (cost > self._max_tokens or side_by_side > UNPADDED_TIMES * self._max_tokens):
                    break
                batch.append(entry)
            lane.popleft()
        return batch

    def _neighbours_of(self, lane: deque[Entry]) -> list[Entry]:
        window: list[Entry] = []
        while lane and len(window) < self.window:
            entry = lane.popleft()
            if entry.job_id in self._waiting:
                window.append(entry)
        oldest = window[0]
        by_cost = sorted(window, key=lambda entry: (entry.item.cost, entry.order))
        start, end = self._best_run(
            [entry.item.cost for entry in by_cost],
            bisect_left(by_cost, (oldest.item.cost, oldest.order), key=lambda entry: (entry.item.cost, entry.order)),
        )
        batch = by_cost[start:end]
        chosen = {entry.order for entry in batch}
        lane.extendleft(entry for entry in reversed(window) if entry.order not in chosen)
        return batch

    def _best_run(self, costs: Sequence[int], oldest: int) -> tuple[int, int]:
        """The oldest item's part of the cheapest cut of its neighbourhood into forwards. costs: ascending."""
        overhead = self._overhead_tokens
        first = max(oldest - self._max_items + 1, bisect_left(costs, costs[oldest] - overhead))
        last = min(oldest + self._max_items, bisect_right(costs, costs[oldest] + overhead))
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
        while ends[start] <= oldest:
            start = ends[start]
        return start, ends[start]

    def _forget(self, batch: Iterable[Entry]) -> None:
        for entry in batch:
            self._num_waiting -= 1
            if self._waiting[entry.job_id] == 1:
                del self._waiting[entry.job_id]
            else:
                self._waiting[entry.job_id] -= 1
