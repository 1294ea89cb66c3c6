"""Who comes into text generation when not all can: decisions alone, without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import pytest

from app.fairness import NOBODY, Flow
from app.runtime.generation.request import GenerationRequest
from app.runtime.generation.room import Placed
from app.runtime.generation.scheduler import Scheduler
from app.runtime.generation.sequence import Sequence as Text

FLOOD: Flow = ("flood", 0)
POLITE: Flow = ("polite", 0)


class Places:
    """Room for so many sequences, whatever their lengths; they share nothing. Implements `Room`."""

    limit_tokens = longest = 10_000
    num_used_tokens = 0

    def __init__(self, number: int) -> None:
        self.num_left = number

    def place(self, tokens: Sequence[int], kind: Hashable, *, spare: int, may_share: bool) -> Placed | None:
        if not self.num_left:
            return None
        self.num_left -= 1
        return Placed(object(), 0)

    def grow(self, place: Any, num_tokens: int, *, spare: int) -> Placed | None:
        return Placed(place, 0)

    def computed(self, place: Any, length: int) -> None:
        pass

    def release(self, place: Any) -> None:
        self.num_left += 1

    def shared_length(self, tokens: Sequence[int], kind: Hashable) -> int:
        return 0

    def shareable(self, num_tokens: int) -> int:
        return 0

    def clear(self) -> None:
        pass


class Generation:
    """Steps of a scheduler whose sequences all write so many tokens. began: keys, in the order in which they came in.
    tokens: that were computed, by flow."""

    def __init__(self, *, max_sequences: int, num_places: int = 100) -> None:
        self.scheduler = Scheduler(Places(num_places), max_sequences=max_sequences)
        self.began: list[int] = []
        self.tokens: Counter[Flow] = Counter()
        self._num_added = 0

    def add(self, flow: Flow = NOBODY, *, number: int = 1, weight: float = 1.0, new: int = 3) -> list[Text]:
        added = []
        for _ in range(number):
            key, prompt = self._num_added, [1] * 10
            self._num_added += 1
            request = GenerationRequest(prompt=prompt, max_tokens=new)
            added.append(Text(key, request, key, list(prompt), len(prompt), flow=flow, weight=weight))
            self.scheduler.add(added[-1])
        return added

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            for chunk in self.scheduler.schedule(1000).chunks:
                text = chunk.sequence
                if chunk.start == 0:
                    self.began.append(text.key)
                self.scheduler.computed(chunk)
                self.tokens[text.flow] += chunk.num_tokens
                text.tokens.append(5)
                if not text.num_left:
                    self.scheduler.remove(text)


def test_texts_of_one_client_come_in_as_they_came() -> None:
    """All that there is room for, and the next when one has ended."""
    generation = Generation(max_sequences=2)
    generation.add(number=5)
    generation.step()
    assert generation.began == [0, 1] and generation.scheduler.num_waiting == 3
    generation.step(20)
    assert generation.began == [0, 1, 2, 3, 4] and len(generation.scheduler) == 0


def test_a_flood_does_not_hold_up_others() -> None:
    """The next place is theirs."""
    generation = Generation(max_sequences=1)
    generation.add(FLOOD, number=50)
    generation.step(5)
    (polite,) = generation.add(POLITE)
    generation.step(7)
    assert polite.key in generation.began[:4]


def test_tokens_are_shared_by_weight() -> None:
    """Those of prompts and those of answers, however long the answers of one client are."""
    generation = Generation(max_sequences=1)
    generation.add(FLOOD, number=200, new=30)
    generation.add(POLITE, number=200, weight=3.0, new=5)
    generation.step(800)
    assert generation.tokens[POLITE] / generation.tokens[FLOOD] == pytest.approx(3, rel=0.15)


def test_what_was_computed_while_nobody_waited_is_no_debt() -> None:
    """A client that had all of an idle server is then as good as another."""
    generation = Generation(max_sequences=2)
    generation.add(FLOOD, number=2, new=300)
    generation.step(298)
    generation.add(FLOOD, number=20)
    generation.add(POLITE, number=20)
    generation.step(80)
    later = generation.began[2:22]
    assert 8 <= sum(key < 22 for key in later) <= 12


def test_one_that_leaves_while_it_waits_does_not_come_in() -> None:
    """Its client has gone, or its deadline has passed."""
    generation = Generation(max_sequences=1)
    first, second, third = generation.add(number=3)
    generation.step()
    generation.scheduler.remove(second)
    generation.step(20)
    assert generation.began == [first.key, third.key]


def test_nobody_overtakes_one_that_waits_for_room() -> None:
    """Though there would be a place among those that run."""
    generation = Generation(max_sequences=10, num_places=2)
    generation.add(FLOOD, number=4)
    generation.add(POLITE, number=1)
    generation.step(1)
    assert generation.began == [0, 4]
    generation.step(3)
    assert generation.began == [0, 4, 1, 2]
