"""How often something was asked for of late: counts of ten minutes each, forgotten after six hours."""

from __future__ import annotations

from collections.abc import Callable

WINDOW_S = 6 * 3600.0
_BUCKET_S = 600.0


class Recent:
    """Owned by the event loop. clock: seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: dict[str, dict[int, int]] = {}  # by name, then by bucket; the oldest first

    def add(self, name: str) -> None:
        buckets, now = self._counts.setdefault(name, {}), self._now()
        buckets[now] = buckets.get(now, 0) + 1
        self._forget(buckets, now)

    def of(self, name: str) -> int:
        buckets = self._counts.get(name)
        if buckets is None:
            return 0
        self._forget(buckets, self._now())
        return sum(buckets.values())

    def _now(self) -> int:
        return int(self._clock() // _BUCKET_S)

    def _forget(self, buckets: dict[int, int], now: int) -> None:
        while buckets and (oldest := next(iter(buckets))) <= now - WINDOW_S // _BUCKET_S:
            del buckets[oldest]
