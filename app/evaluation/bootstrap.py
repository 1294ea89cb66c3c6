"""How sure a value is: the bootstrap's percentile interval, paired where two models answered the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.evaluation.metric import Places, Score

RESAMPLES = 1000
_SEED = 20_000
_TAILS = (2.5, 97.5)  # of 95 %


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """low, high: the interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference(Estimate):
    """p: how often chance alone would give one at least as large, two-sided."""

    p: float


def _resamples(num_pairs: int, count: int) -> Iterator[Places]:
    """The same ones for all who ask: what differs between two models is not the rows."""
    random = np.random.default_rng(_SEED)
    return (random.integers(0, num_pairs, num_pairs) for _ in range(count))


def estimates(scores: Sequence[Score], num_pairs: int, resamples: int = RESAMPLES) -> list[Estimate]:
    """Of each score, and last, of two, the second's difference from the first."""
    everything = np.arange(num_pairs)
    values = np.array([score(everything) for score in scores])
    drawn = np.array([[score(places) for score in scores] for places in _resamples(num_pairs, resamples)])
    found = [_estimate(value, column) for value, column in zip(values, drawn.T, strict=True)]
    if len(scores) == 2:
        found.append(_difference(values[1] - values[0], drawn[:, 1] - drawn[:, 0]))
    return found


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    low, high = _interval(drawn)
    return Estimate(value=float(value), low=low, high=high)


def _difference(value: float, drawn: NDArray[np.float64]) -> Difference:
    low, high = _interval(drawn)
    known = drawn[~np.isnan(drawn)]
    # One more than there are, as of a draw that was not made: p is never 0.
    tails = ((known <= 0).sum() + 1, (known >= 0).sum() + 1)
    p = min(1.0, 2 * min(tails) / (len(known) + 1))
    return Difference(value=float(value), low=low, high=high, p=float(p))


def _interval(drawn: NDArray[np.float64]) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, _TAILS)
    return float(low), float(high)
