"""The shape of a metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.evaluation.pairs import Kind, Pair

Places = NDArray[np.int64]
"""Places of pairs, some of them several times: one resample."""
Score = Callable[[Places], float]
"""The metric's value of these pairs; NaN where they have none."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """kinds: of what it compares. prepare: does once what each resample needs. resamples: at most so many, where one
    takes long."""

    name: str
    kinds: tuple[Kind, ...]
    prepare: Callable[[Sequence[Pair]], Score]
    is_better_lower: bool = False
    resamples: int | None = None


def mean_of(values: Sequence[float]) -> Score:
    """Of each pair's own value."""
    each = np.asarray(values, dtype=np.float64)
    return lambda places: float(each[places].mean())


def ratio_of(counts: Sequence[tuple[float, float]]) -> Score:
    """The sum of the first over the sum of the second."""
    each = np.asarray(counts, dtype=np.float64).reshape(-1, 2)

    def score(places: Places) -> float:
        part, whole = each[places].sum(axis=0)
        return float(part / whole) if whole else float("nan")

    return score


def summed(counts: Sequence[Sequence[float]], combine: Callable[[NDArray[Any]], float]) -> Score:
    """combine: the sums of each pair's counts -> the value."""
    each = np.asarray(counts, dtype=np.float64)
    return lambda places: combine(each[places].sum(axis=0))
