"""Token buckets, with a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.limits import Bucket


def test_bucket_holds_a_minute_and_fills_at_that_rate() -> None:
    """60 at once, then one a second, and never more than a minute's."""
    bucket = Bucket(60, 0.0)
    bucket.take(60, 0.0)
    assert bucket.level(0.0) == 0
    assert bucket.level(1.5) == pytest.approx(1.5)
    assert bucket.level(1000.0) == 60


def test_bucket_says_how_long_until_there_is_enough() -> None:
    """An overdrawn one too: what a text costs is known when it is written."""
    bucket = Bucket(120, 0.0)
    bucket.take(180, 0.0)
    assert bucket.level(0.0) == -60 and bucket.remaining(0.0) == 0
    assert bucket.seconds_until(1, 0.0) == pytest.approx(30.5)
    assert bucket.seconds_until(-60, 0.0) == 0


def test_clock_that_goes_back_gives_nothing() -> None:
    """And takes nothing."""
    bucket = Bucket(60, 100.0)
    bucket.take(30, 100.0)
    assert bucket.level(50.0) == 30
    assert bucket.level(100.0) == 30


@given(st.integers(1, 10**6), st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1000)), max_size=50))
def test_no_more_comes_out_than_went_in(per_minute: int, steps: list[tuple[float, float]]) -> None:
    """Whatever is taken when: a minute's worth, and what flowed in since."""
    bucket, now, taken = Bucket(per_minute, 0.0), 0.0, 0.0
    for wait_s, amount in steps:
        now += wait_s
        if bucket.level(now) >= amount:
            bucket.take(amount, now)
            taken += amount
    assert taken <= per_minute * (1 + now / 60) * (1 + 1e-9) + 1e-6
