"""What was measured, and which candidate it speaks for. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from app.declaration.backends import TORCH
from app.tuning.candidates import Candidate
from app.tuning.exactness import EXACT, Loss
from app.tuning.measured import Measured
from app.tuning.workload import Shape

WORTH = 1.03
"""How much faster than the plain path a candidate must be to be chosen: less may be chance."""


class Aim(StrEnum):
    BOTH = "both"
    LATENCY = "latency"  # requests of one input
    THROUGHPUT = "throughput"  # larger ones

    def counts(self, shape: Shape) -> bool:
        return self is Aim.BOTH or (shape.batch == 1) is (self is Aim.LATENCY)


@dataclass(kw_only=True)
class Row:
    """One candidate, as far as it got. rounds: median seconds of each round, by shape. load_s: of each load; the first
    also makes what is kept for later ones (an export, compiled code). problem: why it cannot be chosen."""

    candidate: Candidate
    rounds: dict[Shape, list[float]] = field(default_factory=dict)
    load_s: list[float] = field(default_factory=list)
    memory_bytes: int | None = None
    dtype: str | None = None
    loss: Loss | None = None
    problem: str | None = None

    @property
    def name(self) -> str:
        return self.candidate.name

    def latency_s(self, shape: Shape) -> float | None:
        return median(self.rounds[shape]) if self.rounds.get(shape) else None

    def inputs_per_s(self, shape: Shape) -> float | None:
        latency_s = self.latency_s(shape)
        return None if latency_s is None else shape.batch / max(latency_s, 1e-9)

    @property
    def steady_load_s(self) -> float | None:
        return min(self.load_s, default=None)

    def speed(self, shapes: Iterable[Shape]) -> float | None:
        """Inputs per second, the geometric mean over these shapes; None: not all of them are measured."""
        speeds = [self.inputs_per_s(shape) for shape in shapes]
        known = [speed for speed in speeds if speed is not None]
        return geometric_mean(known) if known and len(known) == len(speeds) else None


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


@dataclass(frozen=True, kw_only=True)
class Report:
    """rows: the plain path's first, where there is one. max_difference: what the user allows; None: nothing beyond
    what the plain path loses itself."""

    rows: Sequence[Row]
    shapes: Sequence[Shape]
    aim: Aim
    max_difference: float | None = None

    @property
    def aimed(self) -> list[Shape]:
        """The shapes that count; all, where none is of the aimed kind."""
        return [shape for shape in self.shapes if self.aim.counts(shape)] or list(self.shapes)

    @property
    def plain(self) -> Row | None:
        return next((row for row in self.rows if set(row.candidate.keys) == {"backend"} and _is_torch(row)), None)

    @property
    def bound(self) -> float:
        if self.max_difference is not None:
            return self.max_difference
        own = self.plain.loss if self.plain is not None else None
        return EXACT if own is None else max(EXACT, own.worst)

    def measured(self) -> list[Measured]:
        return [self._measured(row) for row in self.rows]

    def _measured(self, row: Row) -> Measured:
        latencies = {str(shape): row.latency_s(shape) for shape in self.shapes}
        speeds = {str(shape): row.inputs_per_s(shape) for shape in self.shapes}
        return Measured(
            name=row.name,
            keys=dict(row.candidate.keys),
            dtype=row.dtype,
            latency_s={shape: value for shape, value in latencies.items() if value is not None},
            inputs_per_s={shape: value for shape, value in speeds.items() if value is not None},
            speedup=self.speedup(row),
            memory_bytes=row.memory_bytes,
            load_s=row.load_s,
            difference=None if row.loss is None or math.isinf(row.loss.difference) else row.loss.difference,
            cosine_distance=None if row.loss is None else row.loss.cosine_distance,
            is_allowed=self.is_allowed(row),
            problem=row.problem,
        )

    def speeds(self) -> Mapping[str, float | None]:
        return {row.name: row.speed(self.aimed) for row in self.rows}

    def is_allowed(self, row: Row) -> bool:
        """Whether it may be chosen, were it the fastest. The plain path always may: it is what serves otherwise."""
        if row.problem is not None or not row.candidate.is_eligible:
            return False
        return row is self.plain or (row.loss is not None and row.loss.worst <= self.bound)

    def speedup(self, row: Row) -> float | None:
        """Over the plain path."""
        speed = row.speed(self.aimed)
        base = self.plain.speed(self.aimed) if self.plain is not None else None
        return None if speed is None or base is None else speed / base

    @property
    def choice(self) -> Row | None:
        allowed = [(row.speed(self.aimed) or 0.0, row) for row in self.rows if self.is_allowed(row)]
        if not allowed:
            return None
        speed, best = max(allowed, key=lambda one: one[0])
        base = self.plain.speed(self.aimed) if self.plain is not None and self.is_allowed(self.plain) else None
        return self.plain if base is not None and speed < base * WORTH else best

    @property
    def faster_but_less_exact(self) -> Row | None:
        """The fastest of those that only the bound rules out, if it is faster than the choice."""
        choice = self.choice
        base = choice.speed(self.aimed) if choice is not None else None
        others = [
            (speed, row)
            for row in self.rows
            if row.problem is None and row.candidate.is_eligible and not self.is_allowed(row)
            if row.loss is not None and math.isfinite(row.loss.worst)
            if (speed := row.speed(self.aimed)) is not None and speed > (base or 0.0) * WORTH
        ]
        return max(others, key=lambda one: one[0])[1] if others else None


def _is_torch(row: Row) -> bool:
    return bool(row.candidate.keys["backend"] == TORCH.name)
