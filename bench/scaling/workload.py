"""What is asked of the simulated nodes: models of many sizes, and requests for them, drawn once for all policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIB = 2**20
_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Drawn by `draw_requests`. rate: requests a second, all models together.

    Popularity is Zipf's, and it drifts: `swaps_per_min` times a minute two models change places, one drawn by its
    popularity and one of all. A share of the requests comes in bursts for one model, any of them with equal chance, so
    mostly a cold one.
    """

    num_models: int
    num_requests: int
    rate: float
    exponent: float = 1.0
    swaps_per_min: float = 20.0
    burst_share: float = 0.1
    burst_requests: float = 200.0
    burst_s: float = 20.0
    median_bytes: float = 438e6  # BERT-base in float32
    sigma: float = 1.0
    most_bytes: float = 8 * 2**30


@dataclass(frozen=True, kw_only=True)
class Requests:
    """In the order of their arrival. most_wanted: models, by their popularity at the beginning."""

    times_s: Sequence[float]
    models: Sequence[int]
    most_wanted: Sequence[int]


def draw_weights(demand: Demand, seed: int) -> list[int]:
    """Bytes of each model, log-normal."""
    source = np.random.default_rng([seed, 1])
    drawn = source.lognormal(np.log(demand.median_bytes), demand.sigma, demand.num_models)
    found: list[int] = np.clip(drawn, MIB, demand.most_bytes).astype(np.int64).tolist()
    return found


def draw_requests(demand: Demand, seed: int) -> Requests:
    source = np.random.default_rng([seed, 2])
    lasts_s = demand.num_requests / demand.rate
    num_in_bursts = round(demand.num_requests * demand.burst_share)
    num_steady = demand.num_requests - num_in_bursts
    times = np.sort(source.uniform(0.0, lasts_s, num_steady))  # a Poisson process, given the number of its points
    by_rank = source.permutation(demand.num_models)
    most_wanted = by_rank.tolist()
    shares = 1.0 / np.arange(1, demand.num_models + 1) ** demand.exponent
    bounds = np.cumsum(shares) / shares.sum()
    ranks = np.minimum(np.searchsorted(bounds, source.random(num_steady)), demand.num_models - 1)
    models = _drifting(demand, source, times, ranks, by_rank, bounds)
    burst_times, burst_models = _bursts(demand, source, num_in_bursts, lasts_s)
    all_times, all_models = np.concatenate([times, burst_times]), np.concatenate([models, burst_models])
    order = np.argsort(all_times, kind="stable")
    return Requests(times_s=all_times[order].tolist(), models=all_models[order].tolist(), most_wanted=most_wanted)


def _drifting(
    demand: Demand,
    source: np.random.Generator,
    times: np.ndarray,
    ranks: np.ndarray,
    by_rank: np.ndarray,
    bounds: np.ndarray,
) -> np.ndarray:
    """The models of these ranks, at these times. Changes by_rank."""
    num_swaps = source.poisson(demand.swaps_per_min / 60 * (times[-1] if len(times) else 0.0))
    moments = np.sort(source.uniform(0.0, times[-1] if len(times) else 0.0, num_swaps))
    cuts = np.searchsorted(times, moments).tolist()
    models = np.empty(len(times), dtype=np.int64)
    begin = 0
    for cut in cuts:
        models[begin:cut] = by_rank[ranks[begin:cut]]
        begin = cut
        falls = min(int(np.searchsorted(bounds, source.random())), demand.num_models - 1)
        rises = int(source.integers(demand.num_models))
        by_rank[[falls, rises]] = by_rank[[rises, falls]]
    models[begin:] = by_rank[ranks[begin:]]
    return models


def _bursts(demand: Demand, source: np.random.Generator, num: int, lasts_s: float) -> tuple[_Floats, _Integers]:
    num_bursts = max(1, round(num / demand.burst_requests))
    begins, of_model = source.uniform(0.0, lasts_s, num_bursts), source.integers(demand.num_models, size=num_bursts)
    burst = source.integers(num_bursts, size=num)
    times = begins[burst] + source.uniform(0.0, demand.burst_s, num)
    return times, of_model[burst]
