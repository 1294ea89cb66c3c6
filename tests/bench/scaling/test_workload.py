"""What is asked of the simulated nodes: as popular, as big, as bursty and as repeatable as it says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from statistics import mean, median, pstdev

import pytest

from bench.scaling.workload import Demand, draw_requests, draw_weights

DEMAND = Demand(num_models=500, num_requests=20_000, rate=100.0, burst_share=0.0, swaps_per_min=0.0)


def test_requests_are_a_poisson_process() -> None:
    """So many a second; the gaps spread as much as they are long; in the order of their times."""
    times = draw_requests(DEMAND, seed=0).times_s
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert min(gaps) >= 0
    assert mean(gaps) == pytest.approx(0.01, rel=0.02)
    assert pstdev(gaps) == pytest.approx(0.01, rel=0.05)


def test_popularity_is_zipfs() -> None:
    """The most wanted model has its share, and the tenth a tenth of it."""
    found = draw_requests(DEMAND, seed=0)
    drawn = Counter(found.models)
    share = 1 / sum(1 / rank for rank in range(1, 501))
    assert drawn[found.most_wanted[0]] / 20_000 == pytest.approx(share, rel=0.05)
    assert drawn[found.most_wanted[9]] / 20_000 == pytest.approx(share / 10, rel=0.25)


def test_popularity_drifts() -> None:
    """Models that nobody wanted at first are among the most wanted in the end."""
    found = draw_requests(replace(DEMAND, swaps_per_min=60.0), seed=0)
    first, last = Counter(found.models[:5_000]), Counter(found.models[-5_000:])
    assert {model for model, _ in first.most_common(10)} != {model for model, _ in last.most_common(10)}
    still = draw_requests(DEMAND, seed=0)
    assert Counter(still.models[:5_000]).most_common(1)[0][0] == Counter(still.models[-5_000:]).most_common(1)[0][0]


def test_bursts_are_many_requests_for_one_model_at_once() -> None:
    """Half of the requests in bursts of about 100 within 5 s: a model of the tail has more in a minute than in all."""
    bursty = replace(DEMAND, burst_share=0.5, burst_requests=100.0, burst_s=5.0)
    found = draw_requests(bursty, seed=0)
    assert len(found.times_s) == 20_000
    plain = Counter(draw_requests(replace(DEMAND, num_requests=10_000), seed=0).models)
    assert sum(number > 60 for number in Counter(found.models).values()) > 2 * sum(n > 60 for n in plain.values())


def test_sizes_are_log_normal() -> None:
    """Around the median, with a mean above it, and none that no node could hold."""
    weights = draw_weights(replace(DEMAND, num_models=20_000), seed=0)
    assert median(weights) == pytest.approx(DEMAND.median_bytes, rel=0.03)
    assert mean(weights) == pytest.approx(DEMAND.median_bytes * 2.718**0.5, rel=0.05)
    assert max(weights) <= DEMAND.most_bytes


def test_the_same_seed_draws_the_same() -> None:
    """And another seed something else."""
    assert draw_requests(DEMAND, seed=3) == draw_requests(DEMAND, seed=3)
    assert draw_requests(DEMAND, seed=3) != draw_requests(DEMAND, seed=4)
    assert draw_weights(DEMAND, seed=3) == draw_weights(DEMAND, seed=3)
