"""What everybody is asked: drawn the same each time, and as long and as uneven as it says."""

from __future__ import annotations

import collections

import pytest

from bench.many import chat_bodies, counts_of, memory_of
from bench.workload import TEXTS, zipf_draws, zipf_weights


def test_zipf_weights_are_shares_that_fall() -> None:
    """They sum to 1, and the second is wanted as often as the exponent says."""
    weights = zipf_weights(30, exponent=1.1)
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)
    assert weights[1] / weights[0] == pytest.approx(2**-1.1)


def test_zipf_draws_follow_their_weights_and_repeat() -> None:
    """The most wanted is drawn in about its share; the same seed draws the same."""
    draws = zipf_draws(30, 20_000, seed=3)
    assert draws == zipf_draws(30, 20_000, seed=3)
    assert draws != zipf_draws(30, 20_000, seed=4)
    assert set(draws) <= set(range(30))
    (_, most), *_ = collections.Counter(draws).most_common()
    assert most / len(draws) == pytest.approx(zipf_weights(30)[0], rel=0.1)


@pytest.mark.parametrize(("kind", "least", "most"), [("short", 12, 16), ("medium", 118, 134), ("mixed", 3, 120)])
def test_texts_are_as_long_as_their_kind(kind: str, least: int, most: int) -> None:
    """In words, each of which is one token of BERT's."""
    lengths = {len(text.split()) for text in TEXTS[kind]()}
    assert least <= min(lengths) < max(lengths) <= most
    assert TEXTS[kind]() == TEXTS[kind]()


def test_chat_bodies_name_the_models_that_were_drawn() -> None:
    """In the order of the draws."""
    assert [body["model"] for body in chat_bodies(["a", "b"], [1, 0, 1])] == ["b", "a", "b"]


def test_loads_and_evictions_are_sums_over_models() -> None:
    """Of Pipeserve's metrics; other servers' tell nothing."""
    metrics = (
        'pipeserve_loads_total{model="a",outcome="loaded"} 3.0\n'
        'pipeserve_loads_total{model="b",outcome="loaded"} 2.0\n'
        'pipeserve_evictions_total{model="a",reason="memory"} 4.0\n'
    )
    assert counts_of(metrics) == {"loads": 5, "evictions": 4}
    assert counts_of("http_requests_total 3\n") == {}


def test_a_models_need_is_what_the_server_measured() -> None:
    """Of Pipeserve's metrics."""
    metrics = 'pipeserve_model_memory_bytes{device="cpu",model="a"} 1.5e+08\npipeserve_open_requests 1.0\n'
    assert memory_of(metrics) == 150_000_000
