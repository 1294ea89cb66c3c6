"""Intervals: as wide as statistics says, the same each time, paired."""

from __future__ import annotations

import numpy as np
import pytest

from app.evaluation.bootstrap import Difference, estimates
from app.evaluation.metric import mean_of

RIGHT = [1.0] * 320 + [0.0] * 80


def test_interval_of_a_share_is_the_normal_one() -> None:
    """0.8 of 400 rows: 1.96 standard errors of 0.02 to each side."""
    (found,) = estimates([mean_of(RIGHT)], 400)
    assert found.value == 0.8
    assert found.low == pytest.approx(0.8 - 1.96 * 0.02, abs=0.005)
    assert found.high == pytest.approx(0.8 + 1.96 * 0.02, abs=0.005)
    assert estimates([mean_of(RIGHT)], 400) == [found]


def test_difference_is_of_the_same_rows() -> None:
    """One that is right in the same rows and in 8 more is better, though its interval overlaps the other's."""
    better = [1.0] * 328 + [0.0] * 72
    first, second, difference = estimates([mean_of(RIGHT), mean_of(better)], 400)
    assert isinstance(difference, Difference)
    assert second.low < first.high
    assert difference.value == pytest.approx(0.02)
    assert 0 < difference.low < 0.02 < difference.high
    assert 0 < difference.p < 0.01


def test_no_difference_is_one() -> None:
    """Equal answers: zero, surely; and what has no value has no interval."""
    *_, difference = estimates([mean_of(RIGHT), mean_of(RIGHT)], 400)
    assert difference == Difference(value=0, low=0, high=0, p=1)
    (nothing,) = estimates([lambda places: float("nan")], 4)
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
