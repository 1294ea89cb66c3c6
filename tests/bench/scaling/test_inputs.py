"""What models cost: what was measured, and lines between."""

from __future__ import annotations

import json

import pytest

from bench.scaling.inputs import INPUTS, costs_of, read_inputs


def test_every_figure_has_its_source() -> None:
    """A command for what was measured, a reason for what is assumed."""
    found = json.loads(INPUTS.read_text())
    assert found["measured"]["command"].startswith("python -m bench.scaling.measure")
    assert found["measured"]["machine"] and found["measured"]["when"]
    assert all(row["why"] for row in found["assumed"].values())


def test_measured_models_cost_what_was_measured() -> None:
    """Both ends of the lines, for every number of items."""
    inputs = read_inputs()
    for model in (inputs.small, inputs.large):
        assert inputs.load_s(model.weights_bytes) == pytest.approx(model.load_s)
        assert inputs.memory_bytes(model.weights_bytes) == pytest.approx(model.memory_bytes)
        for num_items, seconds in model.forward_s.items():
            assert inputs.forward_s(model.weights_bytes, num_items) == pytest.approx(seconds)


def test_other_models_cost_something_between_or_in_proportion() -> None:
    """More bytes and more items take longer; above the larger model, twice the bytes take twice as long."""
    inputs = read_inputs()
    sizes = [20e6, 90e6, 200e6, 438e6, 2e9]
    for num_items in (1, 3, 32):
        seconds = [inputs.forward_s(size, num_items) for size in sizes]
        assert seconds == sorted(seconds)
    large = inputs.large.weights_bytes
    assert inputs.forward_s(2 * large, 8) == pytest.approx(2 * inputs.forward_s(large, 8))
    assert inputs.forward_s(large, 8) < inputs.forward_s(large, 12) < inputs.forward_s(large, 16)
    assert inputs.forward_s(large, 64) == pytest.approx(2 * inputs.forward_s(large, 32))


def test_models_of_about_the_same_size_share_a_table() -> None:
    """A hundred thousand models need no hundred thousand tables. A class is off by 9 % in bytes at most, by 12 % in
    seconds where those grow faster than bytes."""
    inputs = read_inputs()
    weights = [round(20e6 * 1.01**step) for step in range(500)]
    costs = costs_of(inputs, weights, max_items=4)
    assert len({id(table) for table in costs.forwards_s}) < 40
    for size, table in zip(weights, costs.forwards_s, strict=True):
        assert table[4] == pytest.approx(inputs.forward_s(size, 4), rel=0.12)
