"""Time as the fleet sees it: injected, so that tests own it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    def now(self) -> float:
        """Seconds that never go back."""
        ...

    def unix_time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call on the event loop once `now()` has reached `when` (or a moment before)."""
        ...


class LoopClock:
    """The running event loop's clock."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def unix_time(self) -> float:
        return time.time()

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_at(when, callback)


class Alarm:
    """At most one timer for an owner whose due time moves: it wakes at the earliest time that was asked for.

    Moving the due time back costs nothing: the owner is woken too early, finds nothing due, and sets it again.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._when = 0.0

    def set(self, due: float | None) -> None:
        if due is None:
            self.cancel()
        elif self._timer is None or due < self._when:
            self.cancel()
            self._when = due
            self._timer = self._clock.call_at(due, self._fire)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._ring()
