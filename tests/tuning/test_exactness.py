"""Differences of outputs, as bytes of float32."""

from __future__ import annotations

import math

import numpy as np
import pytest

from app.tuning.exactness import loss


def numbers(*values: float) -> bytes:
    return np.array(values, dtype=np.float32).tobytes()


def test_largest_difference_of_any_item_counts() -> None:
    """Items may differ in length."""
    found = loss([numbers(1, 2), numbers(3)], [numbers(1, 2.5), numbers(3)], vector_size=None)
    assert found.difference == 0.5
    assert found.cosine_distance is None


def test_vectors_are_compared_by_cosine() -> None:
    """A vector and its double point the same way; the worst of an item's vectors counts."""
    assert loss([numbers(1, 0)], [numbers(2, 0)], vector_size=2).cosine_distance == pytest.approx(0)
    found = loss([numbers(1, 0, 1, 0)], [numbers(1, 0, 0, 1)], vector_size=2)
    assert found.cosine_distance == pytest.approx(1)
    assert found.worst == pytest.approx(1)


def test_vector_is_exactly_as_itself() -> None:
    """Float32's rounding of the cosine is not counted as a loss."""
    vector = np.random.default_rng(0).normal(size=384).astype(np.float32).tobytes()
    assert loss([vector], [vector], vector_size=384).worst < 1e-12


def test_equal_infinities_are_no_difference_and_nan_is_an_infinite_one() -> None:
    """Masked places hold minus infinity in both; NaN is never allowed by any bound."""
    assert loss([numbers(-math.inf)], [numbers(-math.inf)], vector_size=None).difference == 0
    assert loss([numbers(math.nan)], [numbers(1)], vector_size=None).difference > 1e30
    assert loss([numbers(1)], [numbers(-math.inf)], vector_size=None).difference > 1e30


def test_outputs_of_another_size_are_infinitely_different() -> None:
    """Another number of tokens or labels is another answer."""
    assert math.isinf(loss([numbers(1)], [numbers(1, 2)], vector_size=None).difference)
