"""Who may come in: permits, one per item, for each model and for all together. Pure; the time is passed in.

A request gets all of its permits or none. The last places of a queue are for those that have less than their share of
it (clients in a model's queue, models in the server's), so that nobody can take all. And what would wait too long, by
what those before it waited, is refused at once: it would be computed for nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from app.errors import InputTooLarge, Overloaded
from app.fairness import NOBODY, Flow

_MEMORY_S = 10.0
"""After so long a measurement counts 1/e."""
_NEW_COUNTS = 0.02
"""A measurement counts at least so much: in a batch that is answered there are many."""
_KNOWN_S = 60.0
"""What was measured so long ago is not known any more."""
_LEVELS_A_DOUBLING = 4
_RESERVE = 8
"""A queue's last eighth is for those that have less than their share."""
_UNKNOWN_RETRY_S = 1.0
_MIN_RETRY_S = 1.0
_MAX_RETRY_S = 60.0


@dataclass(slots=True)
class _Level:
    """waited_s, took_s: of requests that came when there were so many items, on average."""

    waited_s: float
    took_s: float
    measured_at: float
    num_measured: int = 1


class Pace:
    """How long requests wait, by how many items there were to compute up to their own last. It is measured for each
    number apart, the large ones in levels: a server that batches computes many in not much more time than few.

    What was not measured is guessed, too low rather than too high: a model of which little is known refuses nobody.
    batch_items: so many may be computed at once.
    """

    def __init__(self, batch_items: int) -> None:
        self.batch_items = batch_items
        self._levels: dict[int, _Level] = {}

    def learn(self, num_items: int, waited_s: float, took_s: float, now: float) -> None:
        """took_s: until it was answered."""
        number = _level_of(num_items)
        level = self._levels.get(number)
        if level is None or now - level.measured_at > _KNOWN_S:
            self._levels[number] = _Level(waited_s, took_s, now)
            return
        level.num_measured += 1
        fading = 1 - math.exp((level.measured_at - now) / _MEMORY_S)
        counts = max(1 / level.num_measured, _NEW_COUNTS, fading)
        level.waited_s += (waited_s - level.waited_s) * counts
        level.took_s += (took_s - level.took_s) * counts
        level.measured_at = now

    def seconds_for(self, num_items: int, now: float) -> float | None:
        """None: not known."""
        wanted = _level_of(num_items)
        known = [number for number, level in self._levels.items() if now - level.measured_at <= _KNOWN_S]
        lower = [number for number in known if number <= wanted]
        if lower:
            # Nobody waits less because there are more; what one request was lucky in says nothing against that.
            waited_s = max(self._levels[number].waited_s for number in lower)
            return waited_s + self._further_s(max(lower), num_items)
        if known:
            return self._levels[min(known)].waited_s * num_items / _first_of(min(known))
        return None

    def _further_s(self, number: int, num_items: int) -> float:
        """How much longer than those of a level: more than a batch wait for others, as long as one of theirs took."""
        most = max(self.batch_items, math.ceil(_first_of(number + 1)) - 1)
        return self._levels[number].took_s * max(0.0, num_items / most - 1)


def _level_of(num_items: int) -> int:
    return int(_LEVELS_A_DOUBLING * math.log2(num_items))


def _first_of(level: int) -> float:
    """The least number of items of it."""
    return float(2 ** (level / _LEVELS_A_DOUBLING))


@dataclass(slots=True)
class _Holding:
    weight: float
    num_items: int = 0


class _Queue:
    """Permits, and who holds them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._holdings: dict[Hashable, _Holding] = {}

    @property
    def is_empty(self) -> bool:
        return not self._holdings

    def is_full_for(self, num_items: int) -> bool:
        return self.used + num_items > self.capacity

    def is_above_share(self, flow: Hashable, weight: float, num_items: int) -> bool:
        """Whether they would be of the last places, and it has its share of all."""
        first = self.capacity - self.capacity // _RESERVE
        if not self.used or self.used + num_items <= first:
            return False
        others = sum(one.weight for other, one in self._holdings.items() if other != flow)
        share = self.capacity * weight / (others + weight)
        return self._held(flow) + num_items > min(share, first)

    def num_up_to(self, flow: Hashable, weight: float, num_items: int) -> int:
        """Items that are computed by the time that these are, in fair order, themselves included."""
        own = self._held(flow) + num_items
        others = (
            min(one.num_items, own * one.weight / weight) for other, one in self._holdings.items() if other != flow
        )
        return own + math.ceil(sum(others))

    def _held(self, flow: Hashable) -> int:
        holding = self._holdings.get(flow)
        return 0 if holding is None else holding.num_items

    def take(self, flow: Hashable, weight: float, num_items: int) -> None:
        self.used += num_items
        holding = self._holdings.setdefault(flow, _Holding(weight))
        holding.weight = weight  # its latest
        holding.num_items += num_items

    def give_back(self, flow: Hashable, num_items: int) -> None:
        self.used -= num_items
        holding = self._holdings[flow]
        holding.num_items -= num_items
        if not holding.num_items:
            del self._holdings[flow]


class _Model:
    def __init__(self, max_items: int, weight: float, batch_items: int) -> None:
        self.weight = weight
        self.queue = _Queue(max_items)
        self.pace = Pace(batch_items)
        self.is_removed = False


@dataclass(slots=True, kw_only=True, eq=False)
class Permit:
    """num_items: that it still has. num_up_to: items to compute up to its own last, when it came."""

    model_id: str
    flow: Flow
    num_items: int
    num_up_to: int


class Admission:
    """Permits of all models; whoever took some gives them back."""

    def __init__(self, max_items: int, rejected: Callable[[str, str], None] = lambda model, reason: None) -> None:
        """rejected: told the model and why: "model_queue", "total_queue", "client_share", "model_share", "max_wait"."""
        self._total = _Queue(max_items)
        self._rejected = rejected
        self._models: dict[str, _Model] = {}

    def add(self, model_id: str, max_items: int, *, weight: float = 1.0, batch_items: int = 1) -> None:
        """weight: the model's share of the server's queue. batch_items: that it may compute at once.

        Again for a model that is there: this holds for those that come, and who is in stays.
        """
        model = self._models.get(model_id)
        if model is None:
            self._models[model_id] = _Model(max_items, weight, batch_items)
            return
        model.weight, model.queue.capacity, model.pace.batch_items = weight, max_items, batch_items
        model.is_removed = False

    def remove(self, model_id: str) -> None:
        """It is forgotten once its permits are back."""
        model = self._models[model_id]
        model.is_removed = True
        self._forget_if_removed(model_id, model)

    def _forget_if_removed(self, model_id: str, model: _Model) -> None:
        if model.is_removed and model.queue.is_empty:
            del self._models[model_id]

    def resize(self, max_items: int) -> None:
        """Of all models together."""
        self._total.capacity = max_items

    def in_use(self, model_id: str) -> int:
        return self._models[model_id].queue.used

    def wait_s(self, model_id: str, now: float) -> float | None:
        """How long one more item would wait behind all that are there. None: not known."""
        model = self._models[model_id]
        return model.pace.seconds_for(model.queue.used + 1, now)

    def acquire(
        self,
        model_id: str,
        num_items: int,
        now: float,
        *,
        flow: Flow = NOBODY,
        weight: float = 1.0,
        max_wait_s: float = math.inf,
    ) -> Permit:
        """Raises InputTooLarge when they can never be had, Overloaded when not now, or when they would wait longer than
        max_wait_s. flow, weight: whose they are."""
        model, total = self._models[model_id], self._total
        limit = min(model.queue.capacity, total.capacity)
        if num_items > limit:
            raise InputTooLarge(
                f'The request has {num_items} inputs; "{model_id}" takes at most {limit} at a time.', param="inputs"
            )
        name = f'The queue of "{model_id}"'
        if model.queue.is_full_for(num_items):
            raise self._full(model_id, "model_queue", name, model.queue, num_items, now)
        if flow != NOBODY and model.queue.is_above_share(flow, weight, num_items):
            raise self._above_share(model_id, "client_share", name, model.queue, num_items, now)
        if total.is_full_for(num_items):
            raise self._full(model_id, "total_queue", _SERVER, total, num_items, now)
        if len(self._models) > 1 and total.is_above_share(model_id, model.weight, num_items):
            raise self._above_share(model_id, "model_share", _SERVER, total, num_items, now)
        num_up_to = model.queue.num_up_to(flow, weight, num_items)
        wait_s = model.pace.seconds_for(num_up_to, now) if model.queue.used else None
        if wait_s is not None and wait_s > max_wait_s:
            self._rejected(model_id, "max_wait")
            raise Overloaded(
                f'"{model_id}" would begin with it in about {wait_s:.2g} s; at most {max_wait_s:.4g} s are waited for.',
                retry_after_s=_bounded(wait_s - max_wait_s),
            )
        model.queue.take(flow, weight, num_items)
        total.take(model_id, model.weight, num_items)
        return Permit(model_id=model_id, flow=flow, num_items=num_items, num_up_to=num_up_to)

    def release(self, permit: Permit, now: float, *, waited_s: float | None = None, took_s: float = 0.0) -> None:
        """waited_s: until its last item was begun; None: not known. took_s: until its answer. What was given up before
        it was begun has waited at least so long."""
        model = self._models.get(permit.model_id)
        self.release_some(permit, permit.num_items)
        if waited_s is not None and model is not None:
            model.pace.learn(permit.num_up_to, waited_s, max(waited_s, took_s), now)

    def release_some(self, permit: Permit, num_items: int) -> None:
        """As they finish; of what is computed again, after its worker's death, no more than there is."""
        num_items = min(num_items, permit.num_items)
        if num_items:
            permit.num_items -= num_items
            model = self._models[permit.model_id]
            model.queue.give_back(permit.flow, num_items)
            self._total.give_back(permit.model_id, num_items)
            self._forget_if_removed(permit.model_id, model)

    def _full(self, model_id: str, reason: str, name: str, queue: _Queue, num_items: int, now: float) -> Overloaded:
        self._rejected(model_id, reason)
        return Overloaded(
            f"{name} is full: {queue.used} of {queue.capacity} items are taken, the request has {num_items}.",
            retry_after_s=self._retry_after_s(model_id, queue.used + num_items - queue.capacity, now),
        )

    def _above_share(
        self, model_id: str, reason: str, name: str, queue: _Queue, num_items: int, now: float
    ) -> Overloaded:
        self._rejected(model_id, reason)
        whose = "clients" if reason == "client_share" else "models"
        return Overloaded(
            f"{name} is nearly full: {queue.used} of {queue.capacity} items are taken, and the last places are for"
            f" {whose} that have less than their share of it.",
            retry_after_s=self._retry_after_s(model_id, num_items, now),
        )

    def _retry_after_s(self, model_id: str, num_items: int, now: float) -> float:
        """How long until so many items are through, of those that are there."""
        model = self._models[model_id]
        used = max(1, model.queue.used)
        seconds = model.pace.seconds_for(used, now)
        return _UNKNOWN_RETRY_S if seconds is None else _bounded(seconds * min(1.0, num_items / used))


_SERVER = "The server's queue"


def _bounded(seconds: float) -> float:
    return min(_MAX_RETRY_S, max(_MIN_RETRY_S, seconds))
