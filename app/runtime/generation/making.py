"""A model's engine: the continuous one where the model is inside the gate, `generate` for the rest, both for most."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from app.catalog import BatchSpec
from app.runtime.adapters import Adapters
from app.runtime.generation.attention import NotPossible
from app.runtime.generation.defaults import end_ids_of
from app.runtime.generation.engine import ContinuousEngine, Control
from app.runtime.generation.gate import runner_of
from app.runtime.generation.request import Advance, Arrival, EngineState, GenerationRequest
from app.runtime.generation.whole import GenerateEngine
from app.runtime.placement import free_bytes

logger = logging.getLogger(__name__)

MAX_SEQUENCES = 256
_SHARE_OF_MEMORY = 0.25
_FULL_CONTEXTS = 8
_UNLIMITED = 2**20
_USUAL_BATCH = BatchSpec()


def make_engine(
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    max_length: int | None,
    pool_bytes: int | None,
    takes_files: bool,
    batch: BatchSpec = _USUAL_BATCH,
    adapters: Adapters | None = None,
) -> TextEngine:
    """max_length: tokens that the model takes. pool_bytes: declared memory for keys and values. takes_files: its chats
    may hold images or sounds, which go through `generate`. batch: the most that a call of that holds."""
    end_ids = end_ids_of(model, tokenizer)
    whole = GenerateEngine(
        model,
        tokenizer,
        end_ids=end_ids,
        max_rows=batch.max_items,
        max_tokens=batch.max_tokens,
        adapters=adapters,
    )
    if takes_files:
        return TextEngine(None, whole, pool={})
    try:
        runner = runner_of(model)
    except NotPossible as reason:
        logger.info("texts go through generate, not the continuous engine: %s", reason)
        return TextEngine(None, whole, pool={})
    runner.take_adapters(adapters)
    each = runner.memory.bytes_per_token
    context = max_length or _UNLIMITED
    limit = pool_tokens(each, context, free_bytes) if pool_bytes is None else pool_bytes // sum(each.values())
    limit = max(1, limit)
    continuous = ContinuousEngine(
        runner, tokenizer, end_ids=end_ids, limit_tokens=limit, max_length=context, max_sequences=MAX_SEQUENCES
    )
    untaken = {} if runner.takes_all_at_once else {str(device): limit * size for device, size in each.items()}
    return TextEngine(continuous, whole, pool=untaken)


def pool_tokens(
    bytes_per_token: Mapping[torch.device, int], context: int, free_bytes: Callable[[torch.device], int]
) -> int:
    """Tokens that keys and values are set aside for: so many full contexts, if each device has room for its layers'."""
    room = (int(_SHARE_OF_MEMORY * free_bytes(device)) // each for device, each in bytes_per_token.items())
    return min(_FULL_CONTEXTS * context, *room)


class TextEngine:
    """Gives each request to the engine that can compute it. Owned by the device thread. pool: bytes that keys and
    values may yet take, by device."""

    def __init__(self, continuous: ContinuousEngine | None, whole: GenerateEngine, *, pool: dict[str, int]) -> None:
        self._continuous = continuous
        self._whole = whole
        self.pool = pool
        self._lanes = _Lane(), _Lane()

    @property
    def is_continuous(self) -> bool:
        return self._continuous is not None

    @property
    def longest(self) -> int | None:
        """Tokens that there is memory for, of one sequence; None: no limit but the model's own."""
        return None if self._continuous is None else self._continuous.longest

    def run(self, control: Control) -> None:
        if self._continuous is None:
            self._whole.run(control)
            return
        shared = _Shared(control, *self._lanes)
        while True:
            shared.sort()
            if not shared.has_work:
                return
            # In turns: one ends when the other has something to do.
            if shared.continuous.has_work:
                self._continuous.run(_Half(shared, shared.continuous, yields_to=shared.whole))
            if shared.whole.has_work:
                self._whole.run(_Half(shared, shared.whole, yields_to=shared.continuous))
            if control.is_wanted_elsewhere():
                return


class _Lane:
    """What is on its way to one of the two engines, and in it."""

    def __init__(self) -> None:
        self.arrivals: deque[Arrival] = deque()
        self.departures: deque[int] = deque()
        self.inside: set[int] = set()
        self.state = EngineState()

    @property
    def has_work(self) -> bool:
        return bool(self.arrivals or self.inside or self.departures)


class _Shared:
    """The control of the engine's driver, divided."""

    def __init__(self, control: Control, continuous: _Lane, whole: _Lane) -> None:
        self.control = control
        self.continuous = continuous
        self.whole = whole

    @property
    def has_work(self) -> bool:
        return self.continuous.has_work or self.whole.has_work

    def sort(self) -> None:
        for arrival in self.control.arrivals():
            request: GenerationRequest = arrival.item.features
            is_whole = bool(request.values) or request.inputs is not None
            (self.whole if is_whole else self.continuous).arrivals.append(arrival)
        for key in self.control.departures():
            for lane in (self.continuous, self.whole):
                lane.departures.append(key)
                lane.inside.discard(key)
                lane.arrivals = deque(one for one in lane.arrivals if one.key != key)


class _Half:
    """Implements `Control` for one of the engines."""

    def __init__(self, shared: _Shared, own: _Lane, *, yields_to: _Lane) -> None:
        self._shared = shared
        self._own = own
        self._other = yields_to

    def arrivals(self) -> Sequence[Arrival]:
        self._shared.sort()
        new = list(self._own.arrivals)
        self._own.arrivals.clear()
        self._own.inside.update(one.key for one in new)
        return new

    def departures(self) -> Sequence[int]:
        gone = list(self._own.departures)
        self._own.departures.clear()
        return gone

    def emit(self, advances: Sequence[Advance], state: EngineState) -> None:
        self._own.inside.difference_update(one.key for one in advances if one.is_last)
        self._own.state = state
        self._shared.control.emit(advances, state + self._other.state)

    def is_wanted_elsewhere(self) -> bool:
        return self._other.has_work or self._shared.control.is_wanted_elsewhere()

    def is_fatal(self, error: BaseException) -> bool:
        return self._shared.control.is_fatal(error)
