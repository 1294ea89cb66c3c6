"""Where the weights of models lie, and how they come to a node that loads them.

A node's disk has three parts: the most wanted models, on every node alike; the models whose home the node is; and in
what is left a cache of what it fetched, the least recently used to go first. What a disk does not have comes from
another node's, or from the hub.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bench.scaling.inputs import Hardware
from bench.scaling.routing import Ring
from bench.scaling.settings import Settings


class Source(StrEnum):
    """Whence a node has the bytes that it loads. REPAIR: those that go to a new home, and are not loaded."""

    DISK = "own disk"
    PEER = "peers"
    HUB = "hub"
    REPAIR = "repair"


@dataclass(eq=False, slots=True)
class _Store:
    """A node's disk and network. cached: the least recently used first. receives_at, sends_at: when the network is
    free, each way."""

    node: int
    free_bytes: int
    cached: OrderedDict[int, None] = field(default_factory=OrderedDict)
    receives_at: float = 0.0
    sends_at: float = 0.0


class Weights:
    """Owns the homes of models, the disks' caches and the transfers between them."""

    def __init__(
        self,
        settings: Settings,
        hardware: Hardware,
        ring: Ring,
        sizes: Sequence[int],
        most_wanted: Sequence[int],
        source: random.Random,
    ) -> None:
        self._settings, self._hardware, self._ring = settings, hardware, ring
        self._sizes = sizes  # bytes of each model
        self._source = source
        self._first_homes = [ring.homes(model, settings.num_homes) for model in range(len(sizes))]
        self.homes = list(self._first_homes)  # others while nodes are down
        self._everywhere = self._on_every_disk(most_wanted)
        self._stores = self._make_stores()
        self._copies: dict[int, list[int]] = {}  # nodes that have a model in their cache, or had
        self._down: set[int] = set()
        self._hub_free_at = 0.0
        self.moved_bytes: Counter[Source] = Counter()

    def _on_every_disk(self, most_wanted: Sequence[int]) -> frozenset[int]:
        room = self._settings.warm_share * self._hardware.disk_bytes
        found = []
        for model in most_wanted:
            room -= self._sizes[model]
            if room < 0:
                break
            found.append(model)
        return frozenset(found)

    def _make_stores(self) -> list[_Store]:
        room = [round(self._hardware.disk_bytes * (1 - self._settings.warm_share))] * self._settings.num_nodes
        for model, homes in enumerate(self.homes):
            for node in homes:
                room[node] -= self._sizes[model]
        return [_Store(node, max(0, left)) for node, left in enumerate(room)]

    def fetch(self, now: float, node: int, model: int) -> float:
        """Begin to bring a model's weights to a node's memory. Returns when they are there."""
        size, store = self._sizes[model], self._stores[node]
        if model in self._everywhere or node in self.homes[model] or model in store.cached:
            if model in store.cached:
                store.cached.move_to_end(model)
            self.moved_bytes[Source.DISK] += size
            return now + size / self._hardware.disk_bytes_per_s
        peer = self._peer(model)
        sent_at = self._send_from_hub(now, size) if peer is None else self._send_from(peer, now, size)
        self.moved_bytes[Source.HUB if peer is None else Source.PEER] += size
        # Each end is busy for its own bytes only, and the later one decides: who waits for one end does not block the
        # other for third parties, as he would not where transfers share links.
        store.receives_at = max(now, store.receives_at) + size / self._hardware.network_bytes_per_s
        self._cache(store, model)  # at once: who still receives passes on what he has, as Dragonfly's peers do
        return max(sent_at, store.receives_at)

    def _send_from(self, peer: _Store, now: float, size: int) -> float:
        peer.sends_at = max(now, peer.sends_at) + size / self._hardware.network_bytes_per_s
        return peer.sends_at

    def _send_from_hub(self, now: float, size: int) -> float:
        """To the last byte at the rate of one node's network; the hub is free for others earlier."""
        begins_at = max(now, self._hub_free_at)
        self._hub_free_at = begins_at + size / self._hardware.hub_bytes_per_s
        return begins_at + size / self._hardware.network_bytes_per_s

    def _peer(self, model: int) -> _Store | None:
        """Of the homes and one node that has it cached, drawn at random, the one whose network is free first."""
        found = [self._stores[node] for node in self.homes[model] if node not in self._down]
        copies = self._copies.get(model)
        while copies:
            place = int(self._source.random() * len(copies))
            store = self._stores[copies[place]]
            if store.node not in self._down and model in store.cached:
                found.append(store)
                break
            copies[place] = copies[-1]
            copies.pop()
        return min(found, key=lambda store: store.sends_at, default=None)

    def _cache(self, store: _Store, model: int) -> None:
        size = self._sizes[model]
        while store.free_bytes < size and store.cached:
            store.free_bytes += self._sizes[store.cached.popitem(last=False)[0]]
        if store.free_bytes >= size:
            store.cached[model] = None
            store.free_bytes -= size
            self._copies.setdefault(model, []).append(store.node)

    # Failures

    def lose(self, now: float, nodes: Sequence[int]) -> None:
        """Nobody can fetch from them, and what was on its way to or from them is cut."""
        self._down.update(nodes)
        for node in nodes:
            self._stores[node].receives_at = self._stores[node].sends_at = now

    def regain(self, nodes: Sequence[int]) -> None:
        """Their disks are as they were, so they are homes again."""
        self._down.difference_update(nodes)
        for model in self._at_home_on(nodes):
            self.homes[model] = self._first_homes[model]

    def repair(self, now: float, nodes: Sequence[int]) -> Iterator[tuple[float, int, tuple[int, ...]]]:
        """Copy what has its homes on these nodes to new ones, a model after the other. When which model has which
        homes: for `move_home` at that time."""
        rate = self._settings.repair_share * self._hardware.network_bytes_per_s
        free_at: dict[int, float] = {}
        for model in self._at_home_on(nodes):
            homes = self._ring.homes(model, self._settings.num_homes, without=nodes)
            done_at = now
            for node in set(homes).difference(self._first_homes[model]):
                free_at[node] = free_at.get(node, now) + self._sizes[model] / rate
                done_at = max(done_at, free_at[node])
                self.moved_bytes[Source.REPAIR] += self._sizes[model]
            yield done_at, model, homes

    def move_home(self, model: int, homes: tuple[int, ...]) -> None:
        self.homes[model] = homes

    def _at_home_on(self, nodes: Sequence[int]) -> list[int]:
        lost = set(nodes)
        return [model for model, homes in enumerate(self._first_homes) if not lost.isdisjoint(homes)]
