"""The simulator against what is known of it by theory, and what must hold whatever is drawn."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings

from bench.scaling.inputs import Costs, Hardware
from bench.scaling.routing import POLICIES, ByResidency, RandomNode, Router
from bench.scaling.settings import Failure, Settings
from bench.scaling.simulation import (
    ABSENT,
    ANSWERED,
    LATE,
    LOADING,
    PENDING,
    REJECTED,
    RESIDENT,
    WAITING,
    Result,
    Simulation,
)
from bench.scaling.weights import Source
from bench.scaling.workload import Requests

HARDWARE = Hardware(
    memory_bytes=10,
    num_slots=2,
    disk_bytes=100,
    disk_bytes_per_s=1.0,
    network_bytes_per_s=1.0,
    hub_bytes_per_s=4.0,
)
ONE_NODE = Settings(num_nodes=1, num_racks=1, num_routers=1, keep_alive_s=-1, num_homes=1, deadline_s=math.inf)


def costs(num_models: int, forward_s: float = 1.0, load_s: float = 1.0, size: int = 1, max_items: int = 32) -> Costs:
    """All alike; a forward takes as long for many items as for one."""
    return Costs(
        weights_bytes=[size] * num_models,
        memory_bytes=[size] * num_models,
        load_s=[load_s] * num_models,
        forwards_s=[[0.0, *[forward_s] * max_items]] * num_models,
    )


def requests(times_s: Sequence[float], models: Sequence[int] | None = None) -> Requests:
    return Requests(times_s=times_s, models=models or [0] * len(times_s), most_wanted=[])


def poisson(rate: float, num: int, seed: int = 0) -> list[float]:
    source, now = random.Random(seed), 0.0
    return [now := now + source.expovariate(rate) for _ in range(num)]


def run(
    asked: Requests,
    of: Costs,
    chosen: Settings = ONE_NODE,
    hardware: Hardware = HARDWARE,
    policy: type[Router] = RandomNode,
) -> Result:
    return Simulation(chosen, hardware, of, asked, policy, seed=1).run()


def test_waiting_is_that_of_an_m_d_1_queue() -> None:
    """One model, no batches: Pollaczek and Khinchine's mean wait, ρ S / 2 (1 - ρ)."""
    rate, forward_s = 0.7, 1.0
    asked = requests(poisson(rate, 30_000))
    result = run(asked, costs(1, forward_s), replace(ONE_NODE, max_items=1))
    waits = [latency - forward_s for latency in result.latencies_s[3_000:]]
    assert mean(waits) == pytest.approx(rate * forward_s / (2 * (1 - rate)), rel=0.05)
    assert result.counts.forward_s == pytest.approx(len(waits) + 3_000)


def test_waiting_for_a_slot_is_about_erlangs() -> None:
    """Many models, all resident, are M/D/c on c slots; Erlang C, for random service times, is near its waiting."""
    slots, load = 4, 2.8
    num_models = 400
    source = random.Random(3)
    times = poisson(load, 20_000, seed=2)
    asked = requests(times, [source.randrange(num_models) for _ in times])
    roomy = replace(HARDWARE, memory_bytes=num_models, num_slots=slots)
    result = run(asked, costs(num_models, 1.0, load_s=0.0), ONE_NODE, replace(roomy, disk_bytes_per_s=1e9))
    waited = mean(latency > 1.0 + 1e-9 for latency in result.latencies_s[2_000:])
    last = load**slots / math.factorial(slots) * slots / (slots - load)
    erlang_c = last / (sum(load**k / math.factorial(k) for k in range(slots)) + last)
    assert waited == pytest.approx(erlang_c, abs=0.05)


def test_hits_are_those_of_ches_approximation() -> None:
    """LRU of equal models under independent requests: a model is resident with 1 - exp(-λ T), the resident ones fill
    the memory (Che, Tung and Wang, 2002)."""
    num_models, room = 300, 60
    shares = [1 / rank**0.9 for rank in range(1, num_models + 1)]
    shares = [share / sum(shares) for share in shares]
    times = poisson(1.0, 24_000)
    asked = requests(times, random.Random(5).choices(range(num_models), shares, k=len(times)))
    quick = replace(HARDWARE, memory_bytes=room, disk_bytes_per_s=1e12, num_slots=room)
    result = run(asked, costs(num_models, forward_s=1e-6, load_s=1e-6), ONE_NODE, quick)
    hits = Counter(result.findings[4_000:])[RESIDENT] / 20_000
    low, high = 0.0, 1e6
    while high - low > 1e-3:  # the age at which models are evicted
        age = (low + high) / 2
        filled = sum(1 - math.exp(-share * age) for share in shares)
        low, high = (age, high) if filled < room else (low, age)
    assert hits == pytest.approx(sum(share * (1 - math.exp(-share * low)) for share in shares), abs=0.01)


def test_one_load_serves_all_who_wait_and_one_forward_their_items() -> None:
    """Three requests for a model that is not there: 1 s from the disk, 1 s to load, 1 s for all."""
    result = run(requests([0.0, 0.5, 1.5]), costs(1))
    assert list(result.latencies_s) == [3.0, 2.5, 1.5]
    assert (result.counts.loads, result.counts.forwards) == (1, 1)


def test_least_recently_used_is_evicted_and_nothing_in_use() -> None:
    """Room for two: the third takes the place of the one that was used longest ago; while both are in use it waits."""
    two = replace(HARDWARE, memory_bytes=2)
    result = run(requests([0, 10, 20, 30, 40, 50], [0, 1, 0, 2, 0, 1]), costs(3), hardware=two)
    assert [finding == RESIDENT for finding in result.findings] == [False, False, True, False, True, False]
    result = run(requests([0, 0.5, 1.0], [0, 1, 2]), costs(3), hardware=two)
    assert list(result.latencies_s) == [3.0, 3.0, 5.0]


def test_idle_models_are_unloaded_after_their_keep_alive() -> None:
    """Counted from the end of their last use."""
    result = run(requests([0.0, 10.0, 21.5, 40.0]), costs(1), replace(ONE_NODE, keep_alive_s=10.0))
    assert [finding == RESIDENT for finding in result.findings] == [False, True, False, False]
    assert result.counts.expiries == 2


def test_requests_past_their_deadline_are_late_and_those_beyond_the_queue_refused() -> None:
    """Neither is computed."""
    result = run(requests([0.0, 0.1, 0.2]), costs(1), replace(ONE_NODE, deadline_s=1.95))
    assert list(result.endings) == [LATE, ANSWERED, ANSWERED]
    result = run(requests([0.0, 0.1, 0.2]), costs(1), replace(ONE_NODE, max_in_flight=2))
    assert list(result.endings) == [ANSWERED, ANSWERED, REJECTED]


def test_routers_that_share_nothing_start_a_cold_model_in_the_same_place() -> None:
    """So it is loaded once; and from the first poll on both know who holds it."""
    cluster = Settings(num_nodes=8, num_racks=4, num_routers=2, deadline_s=math.inf)
    result = run(requests([0, 1, 20, 21]), costs(1, forward_s=0.1), cluster, policy=ByResidency)
    assert result.counts.loads == 1
    assert [finding == ABSENT for finding in result.findings] == [True, False, False, False]


def test_a_hot_model_gets_more_nodes_and_only_where_they_are_to_be_spread() -> None:
    """Twice what one node computes: alone it falls behind for ever."""
    times = [index / 2 for index in range(400)]
    cluster = Settings(num_nodes=8, num_racks=4, num_routers=2, max_items=1, deadline_s=math.inf)
    spread = run(requests(times), costs(1, max_items=1), cluster, policy=ByResidency)
    alone = run(requests(times), costs(1, max_items=1), cluster, policy=POLICIES["residency-alone"])
    assert max(spread.latencies_s[200:]) < 20 < max(alone.latencies_s[200:])
    assert spread.counts.loads > alone.counts.loads == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_a_rack_that_fails_loses_no_request(policy: str) -> None:
    """What it computed goes to other nodes, and its weights to other disks."""
    times = poisson(4.0, 2_000)
    source = random.Random(7)
    asked = requests(times, [source.randrange(50) for _ in times])
    failure = Failure(at_s=200.0, nodes=(0, 4), lasts_s=100.0)
    cluster = Settings(num_nodes=8, num_racks=4, num_routers=2, deadline_s=math.inf, failures=[failure])
    result = run(asked, costs(50), cluster, policy=POLICIES[policy])
    assert set(result.endings) == {ANSWERED}
    assert result.counts.retries > 0
    assert result.moved_bytes[Source.REPAIR] > 0


@given(
    strategies.sampled_from(sorted(POLICIES)),
    strategies.integers(1, 6),
    strategies.integers(1, 12),
    strategies.lists(strategies.tuples(strategies.floats(0, 60), strategies.integers(0, 11)), max_size=60),
    strategies.sampled_from([0.0, 1.0, 30.0, -1.0]),
    strategies.floats(0.1, 50),
    strategies.booleans(),
)
@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
def test_every_request_ends_exactly_once(
    policy: str,
    num_nodes: int,
    max_in_flight: int,
    asked: list[tuple[float, int]],
    keep_alive_s: float,
    deadline_s: float,
    fails: bool,
) -> None:
    """Whatever is asked of whom: each has an ending, and slots, bytes and items come back to what they were."""
    asked = sorted(asked)
    chosen = Settings(
        num_nodes=num_nodes,
        num_racks=2,
        num_routers=2,
        max_items=3,
        max_in_flight=max_in_flight,
        keep_alive_s=keep_alive_s,
        deadline_s=deadline_s,
        declared_dead_s=1.0,
        failures=[Failure(at_s=20.0, nodes=range(0, num_nodes, 2), lasts_s=15.0)] if fails else [],
    )
    simulation = Simulation(
        chosen,
        replace(HARDWARE, memory_bytes=3),
        costs(12, max_items=3),
        requests([time for time, _ in asked], [model for _, model in asked]),
        POLICIES[policy],
    )
    result = simulation.run()
    assert PENDING not in result.endings
    assert all(latency >= 0 for latency in result.latencies_s)
    for node in simulation.nodes:
        loading = sum(worker.state == LOADING for worker in node.workers.values())
        taken = sum(worker.state > WAITING for worker in node.workers.values())
        assert node.in_flight == 0
        assert node.free_slots + loading == HARDWARE.num_slots
        assert node.free_bytes + taken == 3


def test_the_same_seed_gives_the_same() -> None:
    """To the last digit."""
    times = poisson(4.0, 500)
    asked = requests(times, [random.Random(1).randrange(20) for _ in times])
    cluster = Settings(num_nodes=5, num_racks=2)
    found = [run(asked, costs(20), cluster, policy=ByResidency) for _ in range(2)]
    assert found[0].latencies_s == found[1].latencies_s
    assert found[0].counts == found[1].counts
