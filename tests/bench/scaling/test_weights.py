"""Whence weights come, and when they are there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from bench.scaling.inputs import Hardware
from bench.scaling.routing import Ring
from bench.scaling.settings import Settings
from bench.scaling.weights import Source, Weights

HARDWARE = Hardware(
    memory_bytes=10, num_slots=1, disk_bytes=100, disk_bytes_per_s=10.0, network_bytes_per_s=1.0, hub_bytes_per_s=4.0
)
NO_HOMES = Settings(num_nodes=4, num_racks=4, num_homes=0, warm_share=0.0)
HOMES = replace(NO_HOMES, num_homes=2)


def weights(
    settings: Settings, num_models: int = 10, hardware: Hardware = HARDWARE, most_wanted: Sequence[int] = ()
) -> Weights:
    """Of models of one byte each."""
    ring = Ring(settings.num_nodes, settings.num_racks)
    return Weights(settings, hardware, ring, [1] * num_models, most_wanted, random.Random(0))


def test_weights_come_from_the_nearest_place() -> None:
    """The hub where no disk has them; then the node's own cache, and for others that node."""
    found = weights(NO_HOMES)
    assert found.fetch(0.0, node=0, model=5) == 1.0
    assert found.moved_bytes == {Source.HUB: 1}
    assert found.fetch(10.0, node=0, model=5) == 10.1
    assert found.moved_bytes == {Source.HUB: 1, Source.DISK: 1}
    assert found.fetch(20.0, node=1, model=5) == 21.0
    assert found.moved_bytes == {Source.HUB: 1, Source.DISK: 1, Source.PEER: 1}


def test_homes_and_the_most_wanted_models_are_on_disk_from_the_beginning() -> None:
    """On two nodes, and on all as far as their part of the disks goes."""
    found = weights(replace(HOMES, warm_share=0.02), most_wanted=[7, 8, 9])
    for node in range(HOMES.num_nodes):
        for model in (7, 8, *(model for model, homes in enumerate(found.homes) if node in homes)):
            found.fetch(0.0, node, model)
    assert set(found.moved_bytes) == {Source.DISK}
    away = next(node for node in range(4) if node not in found.homes[9])
    found.fetch(0.0, away, 9)
    assert found.moved_bytes[Source.PEER] == 1


def test_a_cache_forgets_what_was_not_used_for_longest() -> None:
    """Room for two: the third takes the place of the one that was read longest ago."""
    found = weights(NO_HOMES, hardware=replace(HARDWARE, disk_bytes=2))
    for now, model in enumerate([0, 1, 0, 2, 0]):
        found.fetch(10.0 * now, 0, model)
    assert found.moved_bytes == {Source.HUB: 3, Source.DISK: 2}
    found.fetch(100.0, 0, 1)
    assert found.moved_bytes[Source.HUB] == 4


def test_a_transfer_waits_for_both_its_ends_and_takes_each_for_its_own_bytes_only() -> None:
    """Two models for each of two nodes, a byte each: the hub passes on four in a second, a node receives one."""
    found = weights(NO_HOMES)
    assert [found.fetch(0.0, node, model) for model, node in enumerate([0, 1, 0, 1])] == [1.0, 1.25, 2.0, 2.0]


def test_nobody_fetches_from_a_node_that_is_down() -> None:
    """What only it has comes from the hub, until it is back; what it has cached as well."""
    found = weights(replace(HOMES, num_homes=1))
    (home,) = found.homes[5]
    one, other, third = (node for node in range(HOMES.num_nodes) if node != home)
    found.lose(0.0, [home])
    found.fetch(0.0, one, 5)
    assert found.moved_bytes == {Source.HUB: 1}
    found.lose(0.0, [one])
    found.fetch(0.0, other, 5)
    assert found.moved_bytes == {Source.HUB: 2}
    found.lose(0.0, [other])
    found.regain([home])
    found.fetch(0.0, third, 5)
    assert found.moved_bytes == {Source.HUB: 2, Source.PEER: 1}


def test_what_a_lost_node_was_home_to_gets_another_home_until_it_is_back() -> None:
    """Copied with a tenth of a network, one model after the other."""
    found = weights(HOMES, num_models=40)
    before = list(found.homes)
    found.lose(0.0, [2])
    moves = list(found.repair(30.0, [2]))
    assert [model for _, model, _ in moves] == [model for model, homes in enumerate(before) if 2 in homes]
    assert found.moved_bytes[Source.REPAIR] == len(moves)
    assert min(done_at for done_at, _, _ in moves) == 40.0
    assert len({(done_at, (set(homes) - set(before[model])).pop()) for done_at, model, homes in moves}) == len(moves)
    for _, model, homes in moves:
        assert 2 not in homes
        found.move_home(model, homes)
    found.regain([2])
    assert found.homes == before
