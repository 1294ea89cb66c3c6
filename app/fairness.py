"""Who goes first where work waits: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996). Pure.

Work waits in flows, each with a weight. A flow's next piece has a start in virtual time, which is where the one before
it ended: as much later as it cost, divided by the weight. The least start goes first. So flows that have work waiting
are served in proportion to their weights, whatever they send; none waits for ever, as each start comes nearer while the
others are served; and a flow that had nothing waiting begins where the others are, without credit for its silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from types import MappingProxyType
from typing import Generic, Literal, TypeVar, get_args

T = TypeVar("T")

PriorityName = Literal["low", "normal", "high"]
PRIORITIES: Mapping[str, int] = MappingProxyType({name: step for step, name in enumerate(get_args(PriorityName), -1)})
"""Of keys, requests and models, by the names that people write."""
NORMAL = PRIORITIES["normal"]
PRIORITY_TIMES = 8.0
"""What a step of priority multiplies a weight with. A share and no precedence: what is low goes on, slowly."""

Flow = tuple[str, int]
"""A client's requests of one priority: its urgent ones do not wait behind its others."""
NOBODY: Flow = ("", NORMAL)
"""Whose requests are those to a server without keys."""


def weight_of(priority: int, weight: float = 1.0) -> float:
    """weight: among those of the same priority."""
    return weight * PRIORITY_TIMES**priority


class VirtualTime:
    """Where each flow's next piece starts. Only flows that are ahead of the time are kept."""

    def __init__(self) -> None:
        self._now = 0.0
        self._starts: dict[Hashable, float] = {}

    def start_of(self, flow: Hashable) -> float:
        """Of its next piece."""
        return max(self._now, self._starts.get(flow, 0.0))

    def charge(self, flow: Hashable, cost: float, weight: float) -> None:
        """It was served so much."""
        self._starts[flow] = self.start_of(flow) + cost / weight

    def advance(self, start: float) -> None:
        """start: the least of those that wait. Who comes from now on begins there, not before."""
        if start > self._now:
            self._now = start
            self._starts = {flow: own for flow, own in self._starts.items() if own > start}

    def rest(self) -> None:
        """Nothing waits: who was served before, while nobody had to wait for it, is no further than others."""
        if self._starts:
            self._now = max(self._starts.values())
            self._starts.clear()


@dataclass(slots=True, eq=False)
class Place(Generic[T]):
    """One that waits. order: of arrival."""

    item: T
    flow: Flow
    weight: float
    cost: float
    order: int


class FairQueue(Generic[T]):
    """What waits, flow by flow, each in its order of arrival. Several queues may share one virtual time: a flow is one
    flow wherever its work waits.

    is_live: whether an item is still wanted; what is not is left out, and forgotten when it comes to the front.
    """

    def __init__(self, time: VirtualTime | None = None, is_live: Callable[[T], bool] = lambda item: True) -> None:
        self.time = time if time is not None else VirtualTime()
        self._is_live = is_live
        self._lines: dict[Flow, deque[Place[T]]] = {}
        self._next_order = 0

    def push(self, item: T, flow: Flow, *, weight: float, cost: float, order: int | None = None) -> None:
        """order: among those of other queues, where it is to be told; else that of the calls."""
        if order is None:
            order, self._next_order = self._next_order, self._next_order + 1
        place = Place(item, flow, weight, cost, order)
        line = self._lines.get(flow)
        if line is None:
            self._lines[flow] = deque((place,))
        else:
            line.append(place)

    def __len__(self) -> int:
        """With those that are not live any more and were not forgotten yet."""
        return sum(map(len, self._lines.values()))

    def first(self, is_wanted: Callable[[Flow], bool] = lambda flow: True) -> tuple[float, Place[T]] | None:
        """The one that goes next, of the flows that are wanted, and its start. None: nothing waits."""
        found = [(self.time.start_of(place.flow), place) for place in self.heads() if is_wanted(place.flow)]
        if len(found) > 1:
            return min(found, key=lambda one: (one[0], one[1].order))
        return found[0] if found else None

    def heads(self) -> list[Place[T]]:
        """The first of each flow."""
        found = []
        for flow, line in list(self._lines.items()):
            while line and not self._is_live(line[0].item):
                line.popleft()
            if line:
                found.append(line[0])
            else:
                del self._lines[flow]
        return found

    def in_order(self, *, ahead: float = float("inf")) -> Iterator[Place[T]]:
        """All, as they would go if nothing else came and each cost what it was said to. The queue is not to change
        meanwhile. ahead: flows that start later than the first by more than this are left out."""
        heads = self.heads()
        starts = {place.flow: self.time.start_of(place.flow) for place in heads}
        latest = min(starts.values(), default=0.0) + ahead
        lines = [
            (starts[place.flow], place.order, place, self._live(place.flow))
            for place in heads
            if starts[place.flow] <= latest
        ]
        if len(lines) == 1:
            yield from self._live(lines[0][2].flow)
            return
        heapify(lines)
        for _, _, _, rest in lines:
            next(rest)  # the head, which stands beside it
        while lines:
            start, _, place, rest = lines[0]
            yield place
            following = next(rest, None)
            if following is None:
                heappop(lines)
            else:
                heapreplace(lines, (start + place.cost / place.weight, following.order, following, rest))

    def _live(self, flow: Flow) -> Iterator[Place[T]]:
        return (place for place in self._lines[flow] if self._is_live(place.item))

    def discard(self, item: T, flow: Flow) -> None:
        """Take this very object out, wherever it is; harmless if it is not here."""
        self.remove([place for place in self._lines.get(flow, ()) if place.item is item])

    def remove(self, places: Iterable[Place[T]]) -> None:
        """Take these out. Cheap for those at the front."""
        behind: dict[Flow, set[int]] = {}
        for place in places:
            line = self._lines[place.flow]
            if line[0] is not place:
                behind.setdefault(place.flow, set()).add(id(place))
                continue
            line.popleft()
            if not line:
                del self._lines[place.flow]
        for flow, gone in behind.items():
            line = self._lines[flow]
            kept: list[Place[T]] = []
            while gone:
                place = line.popleft()
                if id(place) in gone:
                    gone.remove(id(place))
                else:
                    kept.append(place)
            line.extendleft(reversed(kept))
            if not line:
                del self._lines[flow]

    def take(self, place: Place[T], cost: float | None = None) -> T:
        """The item, which goes now; its flow is charged. cost: if it turned out another."""
        first = self.first()
        assert first is not None, "One was taken where none waits. This is a bug."
        return self._go(first[0], place, place.cost if cost is None else cost)

    def pop(self) -> T | None:
        """The item that goes next, if one waits."""
        first = self.first()
        if first is None:
            self.time.rest()
            return None
        start, place = first
        return self._go(start, place, place.cost)

    def _go(self, least_start: float, place: Place[T], cost: float) -> T:
        self.time.advance(least_start)
        self.remove((place,))
        self.time.charge(place.flow, cost, place.weight)
        return place.item
