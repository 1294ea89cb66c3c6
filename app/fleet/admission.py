"""Who may come in: permits, one per item, for each model and for all together. Pure; the clock is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable

from app.errors import InputTooLarge, Overloaded

_MEMORY_S = 10.0  # busy seconds after which a measurement of the speed counts 1/e
_UNKNOWN_RETRY_S = 1.0
_MIN_RETRY_S = 1.0
_MAX_RETRY_S = 60.0


class Speed:
    """Items per second while there was something to do, recent time weighing more."""

    def __init__(self) -> None:
        self._items = 0.0
        self._seconds = 0.0
        self._seen_at: float | None = None  # None: idle

    def begin(self, now: float) -> None:
        """There is work from now on."""
        if self._seen_at is None:
            self._seen_at = now

    def finish(self, num_items: int, now: float, *, is_last: bool) -> None:
        """is_last: nothing is left to do."""
        elapsed_s = 0.0 if self._seen_at is None else max(0.0, now - self._seen_at)
        fading = math.exp(-elapsed_s / _MEMORY_S)
        self._items = self._items * fading + num_items
        self._seconds = self._seconds * fading + elapsed_s
        self._seen_at = None if is_last else now

    def seconds_for(self, num_items: int) -> float:
        """How long until so many items are through: an estimate for `Retry-After`."""
        if self._items <= 0 or self._seconds <= 0:
            return _UNKNOWN_RETRY_S
        return min(_MAX_RETRY_S, max(_MIN_RETRY_S, num_items * self._seconds / self._items))


class _Queue:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._speed = Speed()

    def lacks(self, num_items: int) -> int:
        return max(0, self.used + num_items - self.capacity)

    def retry_after_s(self, num_items: int) -> float:
        return self._speed.seconds_for(self.lacks(num_items))

    def take(self, num_items: int, now: float) -> None:
        self.used += num_items
        self._speed.begin(now)

    def give_back(self, num_items: int, now: float, *, is_answered: bool) -> None:
        self.used -= num_items
        self._speed.finish(num_items if is_answered else 0, now, is_last=self.used == 0)


class Admission:
    """Permits of all models. A request gets all of its permits or none; whoever took them gives them back."""

    def __init__(self, max_items: int, rejected: Callable[[str, str], None] = lambda model, reason: None) -> None:
        """rejected: told the model and whose queue is full, "model_queue" or "total_queue"."""
        self._total = _Queue(max_items)
        self._rejected = rejected
        self._models: dict[str, _Queue] = {}

    def add(self, model_id: str, max_items: int) -> None:
        self._models[model_id] = _Queue(max_items)

    def in_use(self, model_id: str) -> int:
        return self._models[model_id].used

    def acquire(self, model_id: str, num_items: int, now: float) -> None:
        """Raises InputTooLarge when they can never be had, Overloaded when not now."""
        model = self._models[model_id]
        limit = min(model.capacity, self._total.capacity)
        if num_items > limit:
            raise InputTooLarge(
                f'The request has {num_items} inputs; "{model_id}" takes at most {limit} at a time.', param="inputs"
            )
        if model.lacks(num_items):
            self._rejected(model_id, "model_queue")
            raise _full(f'The queue of "{model_id}"', model, num_items)
        if self._total.lacks(num_items):
            self._rejected(model_id, "total_queue")
            raise _full("The server's queue", self._total, num_items)
        model.take(num_items, now)
        self._total.take(num_items, now)

    def release(self, model_id: str, num_items: int, now: float, *, is_answered: bool) -> None:
        """is_answered: the work was done, so it tells the speed."""
        self._models[model_id].give_back(num_items, now, is_answered=is_answered)
        self._total.give_back(num_items, now, is_answered=is_answered)


def _full(name: str, queue: _Queue, num_items: int) -> Overloaded:
    return Overloaded(
        f"{name} is full: {queue.used} of {queue.capacity} items are taken, the request has {num_items}.",
        retry_after_s=queue.retry_after_s(num_items),
    )
