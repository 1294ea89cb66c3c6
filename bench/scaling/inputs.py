"""What the simulation is told: measured figures and assumptions, each with its source, in `inputs.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INPUTS = Path(__file__).with_name("inputs.json")
_CLASSES_PER_OCTAVE = 4  # of sizes: models of one class share a table of service times, 9 % off in bytes at most


@dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """forward_s: by the number of texts in one forward. load_s: fork, load and first forward, less a warm one."""

    weights_bytes: int
    memory_bytes: int
    load_s: float
    forward_s: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Of every node. num_slots: forwards and loads that run at a time, with one compute thread each."""

    memory_bytes: int
    num_slots: int
    disk_bytes: int
    disk_bytes_per_s: float
    network_bytes_per_s: float
    """Each way."""
    hub_bytes_per_s: float
    """Of the way to the hub, which all nodes share."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    small: MeasuredModel
    large: MeasuredModel
    hardware: Hardware

    def forward_s(self, weights_bytes: float, num_items: int) -> float:
        """Between the two measured models on the line through both, in logarithms; beyond them in proportion."""
        small, large = self.small, self.large
        place = math.log(weights_bytes / small.weights_bytes) / math.log(large.weights_bytes / small.weights_bytes)
        between = min(1.0, max(0.0, place))
        nearest = small.weights_bytes * (large.weights_bytes / small.weights_bytes) ** between
        alike_s = math.exp(
            (1 - between) * math.log(_at(small.forward_s, num_items))
            + between * math.log(_at(large.forward_s, num_items))
        )
        return alike_s * weights_bytes / nearest

    def load_s(self, weights_bytes: float) -> float:
        """With the files in the page cache: on the line through both measured models."""
        return _line(weights_bytes, self.small, self.large, self.small.load_s, self.large.load_s)

    def memory_bytes(self, weights_bytes: float) -> float:
        return _line(weights_bytes, self.small, self.large, self.small.memory_bytes, self.large.memory_bytes)


def _line(at: float, small: MeasuredModel, large: MeasuredModel, low: float, high: float) -> float:
    """Where the line says that no bytes take less than nothing, they take nothing."""
    slope = (high - low) / (large.weights_bytes - small.weights_bytes)
    fixed = max(0.0, low - slope * small.weights_bytes)
    return fixed + slope * at


def _at(forward_s: Mapping[int, float], num_items: int) -> float:
    """Between measured numbers of items on a straight line; beyond the largest in proportion."""
    if num_items in forward_s:
        return forward_s[num_items]
    below = max((size for size in forward_s if size < num_items), default=min(forward_s))
    above = min((size for size in forward_s if size > num_items), default=None)
    if above is None:
        return forward_s[below] * num_items / below
    share = (num_items - below) / (above - below)
    return forward_s[below] * (1 - share) + forward_s[above] * share


def read_inputs(path: Path = INPUTS) -> Inputs:
    found = json.loads(path.read_text())
    small, large = (_measured(row) for row in found["measured"]["models"])
    assumed = {name: row["value"] for name, row in found["assumed"].items()}
    return Inputs(small=small, large=large, hardware=Hardware(**assumed))


def _measured(row: Mapping[str, Any]) -> MeasuredModel:
    return MeasuredModel(
        weights_bytes=row["weights_bytes"],
        memory_bytes=row["memory_bytes"],
        load_s=row["load_s"],
        forward_s={int(size): seconds for size, seconds in row["forward_s"].items()},
    )


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the models of one simulation cost. forwards_s: for each model its class's seconds, by number of items."""

    weights_bytes: Sequence[int]
    memory_bytes: Sequence[int]
    load_s: Sequence[float]
    forwards_s: Sequence[Sequence[float]]


def costs_of(inputs: Inputs, weights_bytes: Sequence[int], max_items: int) -> Costs:
    tables: dict[int, list[float]] = {}
    rows = []
    for weights in weights_bytes:
        number = round(math.log2(weights) * _CLASSES_PER_OCTAVE)
        if number not in tables:
            middle = 2 ** (number / _CLASSES_PER_OCTAVE)
            tables[number] = [0.0, *(inputs.forward_s(middle, size) for size in range(1, max_items + 1))]
        rows.append(tables[number])
    return Costs(
        weights_bytes=weights_bytes,
        memory_bytes=[round(inputs.memory_bytes(weights)) for weights in weights_bytes],
        load_s=[inputs.load_s(weights) for weights in weights_bytes],
        forwards_s=rows,
    )
