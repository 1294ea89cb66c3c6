"""The simulated nodes and the event loop.

A node is one server of ours: it loads a model at its first request (one load, which all wait for), evicts the least
recently used idle models until a new one fits, never one in use, unloads after `keep_alive_s` without use, and computes
the items that wait for a model in one forward, `num_slots` models at a time. Where the weights of models come from is
told by `weights`, who gets a request by `routing`.

A heap of tuples and handlers instead of SimPy: the same queue, with the same waits, took a fifth of the time
(docs/lab-log.md), and here time is what bounds how much can be tried.
"""

from __future__ import annotations

import math
import random
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from bench.scaling.inputs import Costs, Hardware
from bench.scaling.routing import Plan, Ring, Router
from bench.scaling.settings import Failure, Settings
from bench.scaling.weights import Source, Weights
from bench.scaling.workload import Requests

# States of a model on a node, in their order: for room, for its weights, for a slot.
WAITING, FETCHING, FETCHED, LOADING, READY, GONE = range(6)

# How a request ended. PENDING ones are left only where this is a bug.
PENDING, ANSWERED, LATE, REJECTED, FAILED = range(5)
# How a request found its model on the node that it came to (the last one, where it had to go on).
UNSEEN, RESIDENT, JOINED, ABSENT = range(4)

_MAX_TRIES = 3


@dataclass(eq=False, slots=True)
class _Worker:
    """A model on a node."""

    model: int
    node: Node
    state: int = WAITING
    queue: list[int] = field(default_factory=list)  # requests
    batch: list[int] = field(default_factory=list)  # those in the forward that runs
    idle_since: float = 0.0


@dataclass(eq=False, slots=True)
class Node:
    number: int
    free_slots: int
    free_bytes: int
    is_up: bool = True
    in_flight: int = 0
    workers: dict[int, _Worker] = field(default_factory=dict)
    idle: OrderedDict[int, _Worker] = field(default_factory=OrderedDict)  # evictable, the least recently used first
    turn: deque[_Worker] = field(default_factory=deque)  # waiting for a slot
    no_room: deque[_Worker] = field(default_factory=deque)  # waiting for memory
    changed: list[int] = field(default_factory=list)  # models, at each change of state or items

    def oldest_use_s(self, need_bytes: int) -> float:
        if self.free_bytes >= need_bytes:
            return 0.0
        return next((worker.idle_since for worker in self.idle.values()), math.inf)

    @property
    def num_changes(self) -> int:
        return len(self.changed)

    def changed_since(self, num_changes: int) -> Iterator[tuple[int, bool | None, int]]:
        for model in set(self.changed[num_changes:]):
            worker = self.workers.get(model)
            if worker is None:
                yield model, None, 0
            else:
                yield model, worker.state == READY, len(worker.queue) + len(worker.batch)


@dataclass(kw_only=True)
class Counts:
    """From `counted_from_s` on. resident_byte_s: bytes of models in memory, times the seconds that they were there."""

    loads: int = 0
    expiries: int = 0
    retries: int = 0
    forwards: int = 0
    forward_s: float = 0.0
    load_s: float = 0.0
    resident_byte_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """times_s, latencies_s, endings, findings: of each request. counts, moved_bytes: from `counted_from_s` on."""

    times_s: Sequence[float]
    latencies_s: Sequence[float]
    endings: bytearray
    findings: bytearray
    counts: Counts
    moved_bytes: Mapping[Source, int]
    counted_from_s: float
    ended_at_s: float


class Simulation:
    def __init__(
        self,
        settings: Settings,
        hardware: Hardware,
        costs: Costs,
        requests: Requests,
        policy: type[Router],
        *,
        seed: int = 0,
        counted_from_s: float = 0.0,
    ) -> None:
        self._settings, self._hardware, self._costs = settings, hardware, costs
        self._times, self._models = requests.times_s, requests.models
        self._source = random.Random(seed)
        self._counted_from_s = counted_from_s
        self._events: list[tuple[float, int, Callable[[float, Any], None], Any]] = []
        self._num_events = 0
        self._now = 0.0
        self._open = 0
        num = len(self._times)
        self._latencies = array("d", bytes(8 * num))
        self._endings, self._findings, self._tries = bytearray(num), bytearray(num), bytearray(num)
        self._counts = Counts()
        self._resident_bytes, self._resident_since = 0, 0.0

        ring = Ring(settings.num_nodes, settings.num_racks)
        self._weights = Weights(settings, hardware, ring, costs.weights_bytes, requests.most_wanted, self._source)
        self.nodes = [Node(number, hardware.num_slots, hardware.memory_bytes) for number in range(settings.num_nodes)]
        plan = Plan(
            ring=ring,
            homes=self._weights.homes,
            costs=costs,
            cold_start_s=self._expected_cold_s,
            num_slots=hardware.num_slots,
            max_items=settings.max_items,
            preload=self._preload,
        )
        self._routers = [policy(plan, seed * 1000 + number) for number in range(settings.num_routers)]

    # The loop

    def run(self) -> Result:
        self._schedule_polls()
        for failure in self._settings.failures:
            self._at(failure.at_s, self._fail, failure)
        if self._counted_from_s:
            self._at(self._counted_from_s, self._begin_to_count, None)
        times, events, num, following = self._times, self._events, len(self._times), 0
        while True:
            if following < num and (not events or times[following] <= events[0][0]):
                self._now = times[following]
                self._open += 1
                self._route(self._now, following)
                following += 1
            elif following < num or self._open:
                now, _, handler, argument = heappop(events)
                self._now = now
                handler(now, argument)
            else:
                break
        self._count_residency(self._now)
        return Result(
            times_s=self._times,
            latencies_s=self._latencies,
            endings=self._endings,
            findings=self._findings,
            counts=self._counts,
            moved_bytes=self._weights.moved_bytes,
            counted_from_s=self._counted_from_s,
            ended_at_s=self._now,
        )

    def _at(self, when: float, handler: Callable[[float, Any], None], argument: Any) -> None:
        self._num_events += 1  # what happens at one time happens in the order of its scheduling
        heappush(self._events, (when, self._num_events, handler, argument))

    def _begin_to_count(self, now: float, _: None) -> None:
        self._count_residency(now)
        self._counts = Counts()
        self._weights.moved_bytes.clear()

    # Routing

    def _route(self, now: float, request: int) -> None:
        model = self._models[request]
        router = self._routers[request % len(self._routers)]
        while True:
            number = router.choose(model)
            if number < 0 or self._tries[request] == _MAX_TRIES:
                self._end(now, request, FAILED)
                return
            node = self.nodes[number]
            if node.is_up:
                break
            router.lost(number)
        router.sent(model, number)
        self._arrive(now, request, model, node)

    def _schedule_polls(self) -> None:
        if self._routers[0].polls:
            for router in self._routers:
                for node in self.nodes:
                    self._at(self._source.random() * self._settings.poll_s, self._poll, (router, node))

    def _poll(self, now: float, whom: tuple[Router, Node]) -> None:
        router, node = whom
        if node.is_up:
            router.back(node.number)
            self._expire(node, now)
            router.observe(node.number, node)
        else:
            router.lost(node.number)
        self._at(now + self._settings.poll_s, self._poll, whom)

    def _expected_cold_s(self, model: int) -> float:
        """What a router reckons with: over the network, and nothing before it."""
        return self._costs.weights_bytes[model] / self._hardware.network_bytes_per_s + self._costs.load_s[model]

    def _preload(self, number: int, model: int) -> None:
        node = self.nodes[number]
        if node.is_up and model not in node.workers:
            self._start(self._now, node, model)

    # A request on a node

    def _arrive(self, now: float, request: int, model: int, node: Node) -> None:
        if node.in_flight >= self._settings.max_in_flight:
            self._end(now, request, REJECTED)
            self._routers[request % len(self._routers)].answered(model, node.number)
            return
        node.in_flight += 1
        node.changed.append(model)
        if node.idle:
            self._expire(node, now)
        worker = node.workers.get(model)
        if worker is None:
            self._findings[request] = ABSENT
            worker = self._start(now, node, model)
            worker.queue.append(request)
            return
        worker.queue.append(request)
        if worker.state != READY:
            self._findings[request] = JOINED
            return
        self._findings[request] = RESIDENT
        if model in node.idle:
            del node.idle[model]
            node.turn.append(worker)
            self._take_turns(now, node)

    def _end(self, now: float, request: int, ending: int) -> None:
        self._open -= 1
        self._endings[request] = ending
        self._latencies[request] = now - self._times[request]

    def _take_turns(self, now: float, node: Node) -> None:
        while node.free_slots and node.turn:
            worker = node.turn.popleft()
            if worker.state == FETCHED:
                self._load(now, worker)
            else:
                self._compute(now, worker)

    def _compute(self, now: float, worker: _Worker) -> None:
        node, most = worker.node, self._settings.max_items
        oldest = now - self._settings.deadline_s
        queue, times = worker.queue, self._times
        if times[queue[0]] < oldest:  # they are in the order of their arrival, but for those that went on to here
            self._drop_late(now, worker, oldest)
            queue = worker.queue
        if not queue:
            self._rest(now, worker)
            return
        if len(queue) > most:
            worker.batch, worker.queue = queue[:most], queue[most:]
        else:
            worker.batch, worker.queue = queue, []
        seconds = self._costs.forwards_s[worker.model][len(worker.batch)]
        node.free_slots -= 1
        self._counts.forwards += 1
        self._counts.forward_s += seconds
        self._at(now + seconds, self._computed, worker)

    def _drop_late(self, now: float, worker: _Worker, oldest: float) -> None:
        late = [request for request in worker.queue if self._times[request] < oldest]
        worker.queue = [request for request in worker.queue if self._times[request] >= oldest]
        worker.node.in_flight -= len(late)
        worker.node.changed.append(worker.model)
        for request in late:
            self._end(now, request, LATE)
            self._routers[request % len(self._routers)].answered(worker.model, worker.node.number)

    def _computed(self, now: float, worker: _Worker) -> None:
        if worker.state == GONE:
            return
        node, routers, model = worker.node, self._routers, worker.model
        number, num_routers = node.number, len(routers)
        for request in worker.batch:
            self._end(now, request, ANSWERED)
            routers[request % num_routers].answered(model, number)
        node.in_flight -= len(worker.batch)
        node.free_slots += 1
        node.changed.append(model)
        worker.batch = []
        if worker.queue:
            node.turn.append(worker)
        else:
            self._rest(now, worker)
        self._take_turns(now, node)

    def _rest(self, now: float, worker: _Worker) -> None:
        worker.idle_since = now
        worker.node.idle[worker.model] = worker
        if worker.node.no_room:
            self._make_room(now, worker.node)

    # Loading and unloading

    def _start(self, now: float, node: Node, model: int) -> _Worker:
        worker = _Worker(model, node)
        node.workers[model] = worker
        node.changed.append(model)
        node.no_room.append(worker)
        self._make_room(now, node)
        return worker

    def _make_room(self, now: float, node: Node) -> None:
        """Start what fits, or fits once idle models are evicted; what does not holds up no other."""
        needs = self._costs.memory_bytes
        for _ in range(len(node.no_room)):
            worker = node.no_room.popleft()
            need = needs[worker.model]
            if need > node.free_bytes and need <= node.free_bytes + sum(needs[model] for model in node.idle):
                while need > node.free_bytes:
                    self._unload(now, next(iter(node.idle.values())))
            if need <= node.free_bytes:
                self._count_residency(now)
                node.free_bytes -= need
                self._resident_bytes += need
                self._fetch(now, worker)
            else:
                node.no_room.append(worker)

    def _expire(self, node: Node, now: float) -> None:
        keep_alive_s = self._settings.keep_alive_s
        if keep_alive_s < 0:
            return
        while node.idle:
            worker = next(iter(node.idle.values()))
            if worker.idle_since + keep_alive_s > now:
                return
            self._unload(now, worker)
            self._counts.expiries += 1

    def _unload(self, now: float, worker: _Worker) -> None:
        node, need = worker.node, self._costs.memory_bytes[worker.model]
        self._count_residency(now)
        self._resident_bytes -= need
        node.free_bytes += need
        del node.idle[worker.model], node.workers[worker.model]
        node.changed.append(worker.model)
        worker.state = GONE

    def _count_residency(self, now: float) -> None:
        self._counts.resident_byte_s += self._resident_bytes * (now - self._resident_since)
        self._resident_since = now

    def _fetch(self, now: float, worker: _Worker) -> None:
        worker.state = FETCHING
        self._counts.loads += 1
        self._at(self._weights.fetch(now, worker.node.number, worker.model), self._fetched, worker)

    def _fetched(self, now: float, worker: _Worker) -> None:
        if worker.state == GONE:
            return
        worker.state = FETCHED
        worker.node.turn.append(worker)
        self._take_turns(now, worker.node)

    def _load(self, now: float, worker: _Worker) -> None:
        worker.state = LOADING
        worker.node.free_slots -= 1
        seconds = self._costs.load_s[worker.model]
        self._counts.load_s += seconds
        self._at(now + seconds, self._loaded, worker)

    def _loaded(self, now: float, worker: _Worker) -> None:
        if worker.state == GONE:
            return
        worker.state = READY
        worker.node.changed.append(worker.model)
        worker.node.free_slots += 1
        if worker.queue:
            worker.node.turn.append(worker)
        else:
            self._rest(now, worker)
        self._take_turns(now, worker.node)

    # Failures

    def _fail(self, now: float, failure: Failure) -> None:
        lost: list[int] = []
        for node in (self.nodes[number] for number in failure.nodes):
            node.is_up = False
            for worker in node.workers.values():
                worker.state = GONE
                lost += worker.batch + worker.queue
            self._empty(now, node)
        self._weights.lose(now, failure.nodes)
        self._at(now + failure.lasts_s, self._recover, failure)
        if failure.lasts_s > self._settings.declared_dead_s:
            self._at(now + self._settings.declared_dead_s, self._repair, failure)
        for request in sorted(lost):
            self._counts.retries += 1
            self._tries[request] += 1
            self._route(now, request)

    def _empty(self, now: float, node: Node) -> None:
        self._count_residency(now)
        self._resident_bytes -= self._hardware.memory_bytes - node.free_bytes
        node.free_bytes, node.free_slots = self._hardware.memory_bytes, self._hardware.num_slots
        node.in_flight = 0
        node.changed += node.workers
        for container in (node.workers, node.idle, node.turn, node.no_room):
            container.clear()

    def _recover(self, now: float, failure: Failure) -> None:
        for number in failure.nodes:
            self.nodes[number].is_up = True
            for router in self._routers:
                if not router.polls:  # its health check finds out
                    self._at(now + self._source.random() * self._settings.poll_s, self._back, (router, number))
        self._weights.regain(failure.nodes)

    def _back(self, now: float, whom: tuple[Router, int]) -> None:
        router, number = whom
        router.back(number)

    def _repair(self, now: float, failure: Failure) -> None:
        for done_at, model, homes in self._weights.repair(now, failure.nodes):
            if done_at < failure.ends_at_s:  # after that the old homes are back
                self._at(done_at, self._repaired, (model, homes))

    def _repaired(self, now: float, moved: tuple[int, tuple[int, ...]]) -> None:
        self._weights.move_home(*moved)
