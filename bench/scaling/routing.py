"""Who gets a request: the routing policies, and what each knows.

A router learns of a node only what a poll of it says (`GET /v1/models`: state and items of each model) and what it sent
there itself since; several routers share nothing. Where a model's weights lie, they all compute alike (`Ring`).
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.scaling.inputs import Costs

_POINTS = 64  # of each node on the ring
_NOWHERE = -1


class Ring:
    """Consistent hashing: the order in which a model prefers nodes, the same for everybody."""

    def __init__(self, num_nodes: int, num_racks: int) -> None:
        self.num_nodes, self.num_racks = num_nodes, num_racks
        points = sorted(
            (_mixed(node * _POINTS + copy + (1 << 40)), node) for node in range(num_nodes) for copy in range(_POINTS)
        )
        self._points = [point for point, _ in points]
        self._nodes = [node for _, node in points]

    def rack(self, node: int) -> int:
        return node % self.num_racks

    def nodes_for(self, model: int) -> Iterator[int]:
        """All nodes, each once, the most preferred first."""
        at = bisect_left(self._points, _mixed(model))
        seen: set[int] = set()
        for place in range(at, at + len(self._nodes)):
            node = self._nodes[place % len(self._nodes)]
            if node not in seen:
                seen.add(node)
                yield node

    def homes(self, model: int, num: int, without: Collection[int] = ()) -> tuple[int, ...]:
        """The first nodes that are each in a rack of its own (where there are so many racks)."""
        found: list[int] = []
        racks: set[int] = set()
        for node in self.nodes_for(model):
            if len(found) == num:
                break
            if node not in without and (self.rack(node) not in racks or len(racks) == self.num_racks):
                found.append(node)
                racks.add(self.rack(node))
        return tuple(found)


def _mixed(number: int) -> int:
    """64 bits, evenly spread: the finisher of SplitMix64 (Steele, Lea and Flood, 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return number ^ (number >> 31)


class Polled(Protocol):
    """A node's answer to a poll."""

    @property
    def in_flight(self) -> int: ...

    def oldest_use_s(self, need_bytes: int) -> float:
        """When what would be evicted first was last used; 0 where so many bytes are free, endless where nothing is
        idle."""
        ...

    @property
    def num_changes(self) -> int:
        """So far."""
        ...

    def changed_since(self, num_changes: int) -> Iterator[tuple[int, bool | None, int]]:
        """Models of which something may be different from what it was then: each with whether it is ready (None: gone,
        False: loading), and with its items admitted and not yet answered. A real poll answers all; that what is as it
        was is left out here saves most of the simulation's time."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all routers know from the beginning. homes: of each model, the nodes that keep its weights on disk; the
    re-replication changes them. preload: asks a node to load a model for nobody in particular."""

    ring: Ring
    homes: Sequence[tuple[int, ...]]
    costs: Costs
    cold_start_s: Callable[[int], float]
    num_slots: int
    max_items: int
    preload: Callable[[int, int], None]


class Router(ABC):
    """One of several. Base: which nodes are believed to be up, and how many items are believed to be in each."""

    polls = False

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.source = random.Random(seed)
        self.up = list(range(plan.ring.num_nodes))
        self.in_flight = [0] * plan.ring.num_nodes
        self._places = {node: node for node in self.up}  # of each in `up`, which is in no order

    @abstractmethod
    def choose(self, model: int) -> int:
        """A node's number; -1 where none is believed to be up."""

    def sent(self, model: int, node: int) -> None:
        self.in_flight[node] += 1

    def answered(self, model: int, node: int) -> None:
        if self.in_flight[node]:
            self.in_flight[node] -= 1

    def observe(self, node: int, polled: Polled) -> None:
        self.in_flight[node] = polled.in_flight

    def lost(self, node: int) -> None:
        """It refuses connections."""
        place = self._places.pop(node, None)
        if place is None:
            return
        last = self.up.pop()
        if last != node:
            self.up[place] = last
            self._places[last] = place
        self.in_flight[node] = 0

    def back(self, node: int) -> None:
        if node not in self._places:
            self._places[node] = len(self.up)
            self.up.append(node)

    def is_up(self, node: int) -> bool:
        return node in self._places

    def _first_up(self, model: int) -> int:
        return next((node for node in self.plan.ring.nodes_for(model) if node in self._places), _NOWHERE)


class RandomNode(Router):
    """Any node."""

    def choose(self, model: int) -> int:
        return self.up[int(self.source.random() * len(self.up))] if self.up else _NOWHERE


class RoundRobin(Router):
    """Each node in turn."""

    def __init__(self, plan: Plan, seed: int) -> None:
        super().__init__(plan, seed)
        self._next = self.source.randrange(len(self.up))

    def choose(self, model: int) -> int:
        self._next += 1
        return self.up[self._next % len(self.up)] if self.up else _NOWHERE


class LeastOfTwo(Router):
    """The less loaded of two nodes, whatever they hold."""

    polls = True

    def choose(self, model: int) -> int:
        if not self.up:
            return _NOWHERE
        one, other = (self.up[int(self.source.random() * len(self.up))] for _ in range(2))
        return one if self.in_flight[one] <= self.in_flight[other] else other


class BoundedHash(Router):
    """Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2018): the model's first node that has
    less than 1.25 times its share. A node that has no more items than slots is never too full: with so few, the bound
    would only scatter models."""

    polls = True
    _FACTOR = 1.25

    def __init__(self, plan: Plan, seed: int) -> None:
        super().__init__(plan, seed)
        self._total = 0

    def choose(self, model: int) -> int:
        if not self.up:
            return _NOWHERE
        bound = max(self.plan.num_slots, self._FACTOR * (self._total + 1) / len(self.up))
        in_flight, places = self.in_flight, self._places
        for node in self.plan.ring.nodes_for(model):
            if in_flight[node] < bound and node in places:
                return node
        raise RuntimeError("All nodes have more than the average. This is a bug.")

    def sent(self, model: int, node: int) -> None:
        super().sent(model, node)
        self._total += 1

    def answered(self, model: int, node: int) -> None:
        before = self.in_flight[node]
        super().answered(model, node)
        self._total += self.in_flight[node] - before

    def observe(self, node: int, polled: Polled) -> None:
        self._total += polled.in_flight - self.in_flight[node]
        super().observe(node, polled)

    def lost(self, node: int) -> None:
        self._total -= self.in_flight[node]
        super().lost(node)


class ByResidency(Router):
    """Where the model is: the plan of docs/scaling.md.

    A model that somebody holds goes to the first holder while that is idle, else to the better of two: extra copies of
    a model that cools fall asleep and are evicted. Where even there the wait is a good part of a cold start, another
    node is asked to load it, the next in the model's order, so that routers that do not know of each other ask the same
    one. A model that nobody holds starts at one of its homes, where its weights lie on disk: at the one whose least
    recently used model has been idle for longest, which makes of many memories something near one.
    """

    polls = True
    spreads = True  # whether hot models get more nodes
    patience = 0.2  # how much of a cold start they wait before that

    def __init__(self, plan: Plan, seed: int) -> None:
        super().__init__(plan, seed)
        self._ready: dict[int, dict[int, int]] = {}  # by model and node: items believed in flight
        self._starting: dict[int, dict[int, int]] = {}
        self._known: list[set[int]] = [set() for _ in self.up]  # models believed on each node
        self._seen = [0] * len(self.up)  # of each node's changes
        self._oldest = [0.0] * len(self.up)
        self._typical_bytes = sum(plan.costs.memory_bytes) // len(plan.costs.memory_bytes)

    def choose(self, model: int) -> int:
        ready = self._ready.get(model)
        if not ready:
            return self._choose_start(model)
        node = next(iter(ready))
        if ready[node] or self.in_flight[node] >= self.plan.num_slots:
            if len(ready) > 1:
                node = self._better_of_two(model, ready)
            if self.spreads:
                self._spread(model, self._wait_s(model, node, ready[node]))
        return node

    def _choose_start(self, model: int) -> int:
        starting = self._starting.get(model)
        if starting:
            node = min(starting, key=starting.__getitem__)
            if self.spreads:
                self._spread(model, self._wait_s(model, node, starting[node]))
            return node
        homes = [node for node in self.plan.homes[model] if node in self._places]
        if not homes:
            return self._first_up(model)
        slots, in_flight, oldest = self.plan.num_slots, self.in_flight, self._oldest
        return min(homes, key=lambda node: (in_flight[node] // slots, oldest[node]))

    def _better_of_two(self, model: int, ready: Mapping[int, int]) -> int:
        nodes = list(ready)
        one, other = (nodes[int(self.source.random() * len(nodes))] for _ in range(2))
        return one if self._wait_s(model, one, ready[one]) <= self._wait_s(model, other, ready[other]) else other

    def _wait_s(self, model: int, node: int, num_items: int) -> float:
        """Expected: the model's own items in full batches, and a turn for each slot's worth of others beyond the
        slots."""
        forwards, most = self.plan.costs.forwards_s[model], self.plan.max_items
        full, rest = divmod(num_items, most)
        own_s = full * forwards[most] + forwards[rest]
        ahead = max(0, self.in_flight[node] - num_items - self.plan.num_slots)
        return own_s + ahead / self.plan.num_slots * forwards[1]

    def _spread(self, model: int, wait_s: float) -> None:
        """One node for every `patience` cold starts of waiting, less those that load the model already. Where none is
        ready, the wait is that of the best of these, and they are not subtracted."""
        starting = self._starting.setdefault(model, {})
        on_their_way = len(starting) if self._ready.get(model) else 0
        if wait_s < self.patience * self.plan.cold_start_s(model) * (1 + on_their_way):
            return
        ready = self._ready.get(model, {})
        for node in self.plan.ring.nodes_for(model):
            if node in self._places and not (node in ready or node in starting):
                if self.in_flight[node] < self.plan.num_slots:
                    starting[node] = 0
                    self._known[node].add(model)
                    self.plan.preload(node, model)
                    return

    def sent(self, model: int, node: int) -> None:
        super().sent(model, node)
        ready = self._ready.get(model)
        if ready is not None and node in ready:
            ready[node] += 1
            return
        starting = self._starting.setdefault(model, {})
        starting[node] = starting.get(node, 0) + 1
        self._known[node].add(model)

    def answered(self, model: int, node: int) -> None:
        super().answered(model, node)
        ready = self._ready.get(model)
        if ready is not None and node in ready:
            if ready[node]:
                ready[node] -= 1
            return
        starting = self._starting.get(model)
        if starting is not None and node in starting:  # it answers, so it is ready
            self._ready.setdefault(model, {})[node] = max(0, starting.pop(node) - 1)

    def observe(self, node: int, polled: Polled) -> None:
        super().observe(node, polled)
        self._oldest[node] = polled.oldest_use_s(self._typical_bytes)
        known = self._known[node]
        for model, is_ready, num_items in polled.changed_since(self._seen[node]):
            if is_ready is None:
                known.discard(model)
                self._forget(model, node)
                continue
            known.add(model)
            mine, others = (self._ready, self._starting) if is_ready else (self._starting, self._ready)
            mine.setdefault(model, {})[node] = num_items
            if model in others:
                others[model].pop(node, None)
        self._seen[node] = polled.num_changes

    def lost(self, node: int) -> None:
        super().lost(node)
        for model in self._known[node]:
            self._forget(model, node)
        self._known[node] = set()

    def _forget(self, model: int, node: int) -> None:
        for holders in (self._ready, self._starting):
            if model in holders:
                holders[model].pop(node, None)


class ByResidencyAlone(ByResidency):
    """The same without more nodes for hot models: what the spreading is worth."""

    spreads = False


POLICIES: Mapping[str, type[Router]] = {
    "random": RandomNode,
    "round-robin": RoundRobin,
    "least-of-two": LeastOfTwo,
    "bounded-hash": BoundedHash,
    "residency-alone": ByResidencyAlone,
    "residency": ByResidency,
}
