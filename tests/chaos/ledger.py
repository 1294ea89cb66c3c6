"""The books of a run: what was sent, what came, and whether it is what should have come."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOLERANCE = 1e-4
"""Of numbers: neighbours in a batch change the order of sums, which with weights as wide as the tests' shows."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """kind: what is allowed to happen to it is said by kind. Several of a kind differ in their answers."""

    name: str
    kind: str
    path: str
    body: Any
    is_stream: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """status: 0 where there is no whole answer. error: such as `503 draining`, `stream worker_lost` where it came as
    the last event, or `cut` and why."""

    status: int
    value: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Timed:
    """A right answer. Times of time.monotonic()."""

    kind: str
    sent_at: float
    answered_at: float

    @property
    def seconds(self) -> float:
        return self.answered_at - self.sent_at


@dataclass
class Ledger:
    """right: answers by the question's name. allowed: errors by kind, by their first words; all others are a loss."""

    right: Mapping[str, Any]
    allowed: Mapping[str, Collection[str]] = field(default_factory=dict)
    num_sent: int = 0
    num_right: int = 0
    num_left: int = 0
    num_strays: int = 0
    documented: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    times: list[Timed] = field(default_factory=list)
    _open: dict[str, Question] = field(default_factory=dict)

    def send(self, question: Question) -> str:
        """The id to send it under."""
        self.num_sent += 1
        request_id = f"chaos-{id(self):x}-{self.num_sent}"
        self._open[request_id] = question
        return request_id

    def enter(self, request_id: str, answer: Answer, timed: Timed) -> None:
        question = self._open.pop(request_id, None)
        if question is None:
            self.num_strays += 1
            self.losses.append(f"{request_id} was answered twice, or never sent")
        elif answer.error:
            self._enter_error(question, request_id, answer.error)
        elif question.name not in self.right:
            self.losses.append(f"{question.name} ({request_id}): was answered, though it has no right answer")
        elif not is_same(answer.value, self.right[question.name]):
            self.losses.append(f"{question.name} ({request_id}): a wrong answer: {str(answer.value)[:300]}")
        else:
            self.num_right += 1
            self.times.append(timed)

    def _enter_error(self, question: Question, request_id: str, error: str) -> None:
        for allowed in self.allowed.get(question.kind, ()):
            if error.startswith(allowed):
                self.documented[allowed] += 1
                return
        self.losses.append(f"{question.name} ({request_id}): {error}")

    def leave(self, request_id: str) -> None:
        """Its client has gone away: there is no answer to wait for."""
        del self._open[request_id]
        self.num_left += 1

    def close(self) -> None:
        self.losses += [f"{question.name} ({one}): was never answered" for one, question in self._open.items()]
        self._open.clear()
        accounted = self.num_right + self.num_left + self.documented.total() + len(self.losses) - self.num_strays
        assert accounted == self.num_sent, f"{accounted} of {self.num_sent} requests are in the books"


def is_same(got: Any, right: Any) -> bool:
    """Equal, but for the last digits of numbers."""
    if isinstance(right, float) and isinstance(got, int | float):
        return math.isclose(got, right, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(right, dict) and isinstance(got, dict):
        return right.keys() == got.keys() and all(is_same(got[key], right[key]) for key in right)
    if isinstance(right, list) and isinstance(got, list):
        return len(right) == len(got) and all(map(is_same, got, right))
    return bool(got == right)


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """NaN where there are none."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else math.nan
