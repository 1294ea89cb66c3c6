"""What a router chooses from what it believes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.scaling.inputs import Costs
from bench.scaling.routing import BoundedHash, ByResidency, LeastOfTwo, Plan, Ring, RoundRobin


@dataclass
class Answer:
    """Of a node that was polled. models: ready ones, with their items; None: gone. oldest 0: room is free."""

    in_flight: int = 0
    models: dict[int, int | None] = field(default_factory=dict)
    oldest: float = 0.0
    num_changes: int = 0

    def oldest_use_s(self, need_bytes: int) -> float:
        return self.oldest

    def changed_since(self, num_changes: int) -> Iterator[tuple[int, bool | None, int]]:
        for model, num_items in self.models.items():
            yield model, None if num_items is None else True, num_items or 0


def plan(num_nodes: int = 12, num_models: int = 40, asked: list[tuple[int, int]] | None = None) -> Plan:
    """A forward takes 1 s whatever is in it, a cold start 10 s; nodes have 4 slots. asked: whom to load what."""
    ring = Ring(num_nodes, num_racks=3)
    one = [1] * num_models
    return Plan(
        ring=ring,
        homes=[ring.homes(model, 2) for model in range(num_models)],
        costs=Costs(weights_bytes=one, memory_bytes=one, load_s=one, forwards_s=[[0.0, 1.0, 1.0]] * num_models),
        cold_start_s=lambda model: 10.0,
        num_slots=4,
        max_items=2,
        preload=lambda node, model: None if asked is None else asked.append((node, model)),
    )


def test_homes_are_in_racks_of_their_own_and_few_move_when_a_node_goes() -> None:
    """Models that were not at home there stay where they were."""
    ring = Ring(40, num_racks=4)
    for model in range(300):
        homes = ring.homes(model, 3)
        assert len({ring.rack(node) for node in homes}) == 3
        without = ring.homes(model, 3, without=[7])
        assert 7 not in without
        assert without == homes or 7 in homes
    assert len(ring.homes(1, 6)) == 6  # more than racks
    assert ring.homes(1, 0) == ()


def test_models_are_spread_over_nodes_about_evenly() -> None:
    """No node is the first of more than twice its share."""
    ring = Ring(40, num_racks=4)
    first = Counter(next(ring.nodes_for(model)) for model in range(8_000))
    assert len(first) == 40
    assert max(first.values()) < 400


def test_round_robin_takes_each_in_turn_but_lost_ones() -> None:
    """A node that refused is out until it is back."""
    router = RoundRobin(plan(4), seed=0)
    assert sorted(router.choose(0) for _ in range(4)) == [0, 1, 2, 3]
    router.lost(2)
    assert 2 not in {router.choose(0) for _ in range(9)}
    router.back(2)
    assert 2 in {router.choose(0) for _ in range(4)}


def test_nowhere_is_the_answer_when_all_are_lost() -> None:
    """Of every policy."""
    for policy in (RoundRobin, LeastOfTwo, BoundedHash, ByResidency):
        router = policy(plan(2), seed=0)
        for node in range(2):
            router.lost(node)
        assert router.choose(0) == -1


def test_bounded_hash_goes_on_from_a_node_that_has_more_than_its_share() -> None:
    """To the next in the model's order; and comes back when that is answered."""
    router = BoundedHash(plan(), seed=0)
    first, second = list(router.plan.ring.nodes_for(5))[:2]
    for _ in range(4):
        assert router.choose(5) == first
        router.sent(5, first)
    assert router.choose(5) == second
    router.answered(5, first)
    assert router.choose(5) == first


def test_a_cold_model_starts_at_the_home_that_would_evict_the_older_one() -> None:
    """Loads come first, in slots' worth; then what would have to go for it."""
    router = ByResidency(plan(), seed=0)
    first, second = router.plan.homes[5]
    router.observe(first, Answer(oldest=50.0))
    router.observe(second, Answer(oldest=20.0))
    assert router.choose(5) == second
    router.observe(second, Answer(in_flight=4, oldest=20.0))
    assert router.choose(5) == first


def test_a_holder_is_preferred_until_a_poll_says_that_it_is_none() -> None:
    """Whoever else has room."""
    router = ByResidency(plan(), seed=0)
    holder = next(node for node in range(12) if node not in router.plan.homes[5])
    router.observe(holder, Answer(models={5: 0}))
    assert router.choose(5) == holder
    router.observe(holder, Answer(models={5: None}))
    assert router.choose(5) in router.plan.homes[5]
    router.observe(holder, Answer(models={5: 0}))
    router.lost(holder)
    assert router.choose(5) in router.plan.homes[5]


def test_more_nodes_are_asked_to_load_what_waits_and_no_more_than_the_waiting_is_worth() -> None:
    """Two items a forward of 1 s; 2 s of waiting, a fifth of a cold start, are worth a node. Requests go on to the
    holder meanwhile."""
    asked: list[tuple[int, int]] = []
    router = ByResidency(plan(asked=asked), seed=0)
    router.observe(3, Answer(in_flight=2, models={5: 2}))
    assert (router.choose(5), asked) == (3, [])
    for _ in range(2):
        router.observe(3, Answer(in_flight=4, models={5: 4}))
        assert router.choose(5) == 3
        assert asked == [(next(node for node in router.plan.ring.nodes_for(5) if node != 3), 5)]
    router.observe(3, Answer(in_flight=8, models={5: 8}))
    router.choose(5)
    assert [model for _, model in asked] == [5, 5]


def test_those_who_wait_for_a_cold_model_are_spread_over_the_nodes_that_load_it() -> None:
    """Two seconds of waiting behind the first are worth a second node, and that one has nobody yet."""
    asked: list[tuple[int, int]] = []
    router = ByResidency(plan(asked=asked), seed=0)
    chosen = []
    for _ in range(6):
        chosen.append(router.choose(5))
        router.sent(5, chosen[-1])
    assert chosen[:4] == [chosen[0]] * 4
    assert len(set(chosen)) == 2
    assert len(asked) == 1
