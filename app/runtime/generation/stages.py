"""What the tasks share that generate texts with an engine: one item per sequence, written as it comes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.generation.engine import Engine
from app.runtime.generation.request import Advance, Arrival, EngineState
from app.runtime.parts import OwnStages
from app.tasks.completion import Delta


class Writer(Protocol):
    """Follows one sequence for a client that reads along."""

    def write(self, advances: Sequence[Advance]) -> Delta | None:
        """What these steps, in order, add; None: nothing yet."""
        ...


class StreamingStages(Protocol):
    """Stages whose answers can be read while they are made: by an engine, or by a forward that tells its `Watch`."""

    def writer(self, item: Item, parameters: dict[str, Any], *, prompt: int, choice: int) -> Writer:
        """prompt: index of the item's input; choice: its place among the items of the input."""
        ...


class GeneratingStages(OwnStages):
    """The worker has the engine compute the items of many jobs together; `forward` has it compute some by itself.
    Implements `StreamingStages`."""

    @property
    def engine(self) -> Engine:
        engine: Engine | None = self._parts.engine
        assert engine is not None, "A model that generates was loaded without an engine. This is a bug."
        return engine

    @abstractmethod
    def writer(self, item: Item, parameters: dict[str, Any], *, prompt: int, choice: int) -> Writer:
        """See `StreamingStages`."""
        ...

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """A `Generated` for each (for a beam search, a list of them). Raises what ended the first that failed."""
        alone = _Alone(items, watch)
        self.engine.run(alone)
        return alone.outputs()


class _Alone:
    """A `Control` with nothing but these items. Implements `Control`."""

    def __init__(self, items: Sequence[Item], watch: Watch) -> None:
        self._new = [Arrival(key, item) for key, item in enumerate(items)]
        self._watch = watch
        self._last: dict[int, Advance] = {}
        self._gone: set[int] = set()
        self._num_items = len(items)

    def arrivals(self) -> Sequence[Arrival]:
        new, self._new = self._new, []
        return new

    def departures(self) -> Sequence[int]:
        gone = [key for key in range(self._num_items) if key not in self._gone and self._watch.is_cancelled(key)]
        self._gone.update(gone)
        return gone

    def emit(self, advances: Sequence[Advance], state: EngineState) -> None:
        self._watch.step()
        self._last |= {one.key: one for one in advances if one.is_last}

    def is_wanted_elsewhere(self) -> bool:
        return False

    def is_fatal(self, error: BaseException) -> bool:
        return True

    def outputs(self) -> list[Any]:
        for one in self._last.values():
            if one.error is not None:
                raise one.error
        return [self._last[key].output if key in self._last else None for key in range(self._num_items)]
