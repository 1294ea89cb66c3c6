"""How long a forward will take at least. Pure."""

from __future__ import annotations

_FORGETTING = 1.02
"""So much slower the fastest forward counts after each one that was not as fast: the machine may be busier now."""


class ForwardPace:
    """Learned from the forwards that were: seconds for a token of their cost, of the fastest of late. So what would be
    late by this is late. overhead_tokens: what a forward costs before its first token, in tokens."""

    def __init__(self, overhead_tokens: int) -> None:
        self._overhead_tokens = overhead_tokens
        self._seconds: dict[str, float] = {}  # for a token, by task

    def learn(self, task: str, cost: int, seconds: float) -> None:
        new = seconds / (cost + self._overhead_tokens)
        old = self._seconds.get(task, new)
        self._seconds[task] = min(new, old * _FORGETTING)

    def seconds_for(self, task: str, cost: int) -> float:
        """0: not known."""
        return self._seconds.get(task, 0.0) * (cost + self._overhead_tokens)
