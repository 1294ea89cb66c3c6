"""Token buckets. Pure: the time is passed in."""

from __future__ import annotations


class Bucket:
    """Holds what one minute allows, and fills up at that rate. It may be overdrawn: what a text will cost is known
    when it is written."""

    __slots__ = ("_level", "_seen_at", "per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        """now: seconds of a clock that does not go back."""
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._seen_at = now

    def level(self, now: float) -> float:
        """What is in it; below zero: overdrawn."""
        elapsed_s = max(0.0, now - self._seen_at)
        self._seen_at = max(now, self._seen_at)
        self._level = min(float(self.per_minute), self._level + elapsed_s * self.per_minute / 60)
        return self._level

    def remaining(self, now: float) -> int:
        return max(0, int(self.level(now)))

    def take(self, amount: float, now: float) -> None:
        self._level = self.level(now) - amount

    def seconds_until(self, level: float, now: float) -> float:
        """How long until it holds so much."""
        return max(0.0, level - self.level(now)) * 60 / self.per_minute
