"""Requests measured on the device thread: all stages, timed, their outputs as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from app.channel.messages import Measure
from app.errors import InvalidInput, NotAvailable
from app.runtime.base import UNWATCHED, Item, Watch
from app.worker.measuring import measure


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Outcome:
    logits: Any
    tokens: list[int]


class Stages:
    """An input is a list of numbers, each an item; its forward takes a second. output: what it makes of a number."""

    def __init__(self, clock: Clock, output: Any = lambda number: np.array([number], dtype=np.float32)) -> None:
        self.clock = clock
        self.output = output
        self.forwards: list[list[float]] = []
        self.finished: list[list[Any]] = []

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        if "bad" in inputs:
            raise InvalidInput("bad is no list")
        return [[Item(number, 1, group=number < 0) for number in one] for one in inputs]

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> Iterable[Any]:
        self.clock.now += 1
        self.forwards.append([item.features for item in items])
        return (self.output(item.features) for item in items)

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        assert len(items) == len(outputs)
        self.finished.append(list(outputs))
        return None


def order(*requests: list[Any], limit_s: float = 100.0, keeps_outputs: bool = False) -> Measure:
    return Measure(task="a-task", requests=list(requests), parameters={}, limit_s=limit_s, keeps_outputs=keeps_outputs)


def test_first_request_warms_up_and_the_limit_ends_the_rest() -> None:
    """One timed request is computed however long it takes."""
    clock = Clock()
    stages = Stages(clock)
    requests = [[[float(number)]] for number in range(9)]
    assert measure(stages, order(*requests, limit_s=2.5), 64, clock).seconds == [1.0, 1.0, 1.0]
    assert len(stages.forwards) == 4
    assert measure(stages, order(*requests, limit_s=0.0), 64, clock).seconds == [1.0]


def test_items_share_forwards_as_in_serving() -> None:
    """Equal groups only, at most so many at a time; outputs come back in the order of the items."""
    clock = Clock()
    stages = Stages(clock)
    found = measure(stages, order([[1, -2, 3], [4, -5]], keeps_outputs=True), 2, clock)
    assert stages.forwards == [[1, 3], [4], [-2, -5]]
    assert [np.frombuffer(one, np.float32).tolist() for one in found.outputs] == [[1], [-2], [3], [4], [-5]]
    assert [len(outputs) for outputs in stages.finished] == [3, 2]


@pytest.mark.parametrize(
    "output",
    [
        lambda number: torch.tensor([number, 2.0], dtype=torch.bfloat16),
        lambda number: {"logits": np.array([number]), "more": (np.array([[2.0]], dtype=np.float16), "text", [3])},
        lambda number: Outcome(torch.tensor([[number], [2.0]]), [3, 4]),
    ],
)
def test_every_floating_point_number_of_an_output_counts(output: Any) -> None:
    """Whatever holds them; whole numbers and texts are left out."""
    clock = Clock()
    (numbers,) = measure(Stages(clock, output), order([[1.0]], keeps_outputs=True), 64, clock).outputs
    assert np.frombuffer(numbers, np.float32).tolist() == [1.0, 2.0]


def test_output_without_numbers_cannot_be_compared() -> None:
    """A forward that generates gives tokens."""
    clock = Clock()
    with pytest.raises(NotAvailable, match="a-task"):
        measure(Stages(clock, lambda number: [1, 2]), order([[1.0]], keeps_outputs=True), 64, clock)


def test_what_a_stage_raises_is_raised() -> None:
    """The worker answers it as the measurement's error."""
    clock = Clock()
    with pytest.raises(InvalidInput, match="bad"):
        measure(Stages(clock), order(["bad"]), 64, clock)
