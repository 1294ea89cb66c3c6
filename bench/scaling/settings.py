"""What a simulation may be varied in, and what fails in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Nodes that lose their memory and all that they computed, for a while. Their disks survive."""

    at_s: float
    nodes: Sequence[int]
    lasts_s: float

    @property
    def ends_at_s(self) -> float:
        return self.at_s + self.lasts_s


@dataclass(frozen=True, kw_only=True)
class Settings:
    """keep_alive_s: -1 for ever. deadline_s: of a request. max_in_flight: items admitted by a node; more get 429.
    poll_s: between two polls of a node by a router. num_homes: disks that hold each model's weights, each in another
    rack; 0: the hub alone has them. warm_share: of the disk, filled with the most popular models on every node.
    declared_dead_s: after so long without an answer the weights that a node has are copied elsewhere, with
    `repair_share` of each node's network."""

    num_nodes: int
    num_racks: int
    num_routers: int = 4
    max_items: int = 32
    max_in_flight: int = 8192
    keep_alive_s: float = 300.0
    deadline_s: float = 60.0
    poll_s: float = 5.0
    num_homes: int = 2
    warm_share: float = 0.5
    declared_dead_s: float = 30.0
    repair_share: float = 0.1
    failures: Sequence[Failure] = ()
