"""What each model did of late, in short steps: for charts that are watched. A request costs two microseconds of it; a
model that is never without any keeps some tens of kilobytes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

STEP_S = 2.0
WINDOW_S = 300.0

_BINS_PER_OCTAVE = 8
"""Of latencies, which are told with an error of at most 4.5 %."""
_SHORTEST_S = 1e-6


@dataclass(eq=False, slots=True)
class _Step:
    number: int
    num_failed: int = 0
    num_by_bin: dict[int, int] = field(default_factory=dict)  # of answers, by their latency
    waited_s: float = 0.0
    num_tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A step that is over. age_s: since its end. p50_s, p99_s: of answers, None without any. num_waiting: on average
    over the step, by what the jobs that ended in it had waited. num_tokens: that were generated."""

    age_s: float
    num_requests: int
    num_failed: int
    p50_s: float | None
    p99_s: float | None
    num_waiting: float
    num_tokens: int


class Activity:
    """Owned by the event loop. clock: seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._steps: dict[str, deque[_Step]] = {}  # by model, the oldest first; none where nothing happened

    def answered(self, model: str, seconds: float) -> None:
        num_by_bin = self._step(model).num_by_bin
        which = math.floor(math.log2(max(seconds, _SHORTEST_S)) * _BINS_PER_OCTAVE)
        num_by_bin[which] = num_by_bin.get(which, 0) + 1

    def failed(self, model: str) -> None:
        self._step(model).num_failed += 1

    def waited(self, model: str, seconds: float) -> None:
        """A job has ended that had waited so long."""
        self._step(model).waited_s += seconds

    def generated(self, model: str, num_tokens: int) -> None:
        self._step(model).num_tokens += num_tokens

    def of(self, model: str) -> list[Point]:
        """The oldest first, without steps in which nothing happened."""
        return list(self._points(model))

    def forget(self, model: str) -> None:
        self._steps.pop(model, None)

    def _step(self, model: str) -> _Step:
        steps = self._steps.get(model)
        if steps is None:
            steps = self._steps[model] = deque(maxlen=int(WINDOW_S / STEP_S) + 1)
        number = int(self._clock() / STEP_S)
        if not steps or steps[-1].number != number:
            steps.append(_Step(number))
        return steps[-1]

    def _points(self, model: str) -> Iterator[Point]:
        now = self._clock()
        for step in self._steps.get(model, ()):
            age_s = now - (step.number + 1) * STEP_S
            if 0 <= age_s < WINDOW_S:
                num_answered = sum(step.num_by_bin.values())
                yield Point(
                    age_s=age_s,
                    num_requests=num_answered + step.num_failed,
                    num_failed=step.num_failed,
                    p50_s=_quantile(step.num_by_bin, num_answered, 0.50),
                    p99_s=_quantile(step.num_by_bin, num_answered, 0.99),
                    num_waiting=step.waited_s / STEP_S,
                    num_tokens=step.num_tokens,
                )


def _quantile(num_by_bin: Mapping[int, int], total: int, share: float) -> float | None:
    """The middle of the bin that has it."""
    left = math.ceil(total * share)
    for which, number in sorted(num_by_bin.items()):
        left -= number
        if left <= 0:
            return math.exp2((which + 0.5) / _BINS_PER_OCTAVE)
    return None
