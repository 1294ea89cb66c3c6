"""The seam between the worker's batching and the models: items, stages, a loaded model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Item:
    """The unit of batching: what one row of a forward needs. One input becomes one or more items.

    cost: tokens before padding, or what counts as one: 16 × 16 pixels, 20 ms of sound; the cost of a batch is
    max(cost) * len(batch).
    is_unpadded: not so where this item is: its forward computes no padding, and a batch costs what its items do.
    group: only items with equal groups may share a forward (its parameters, its input keys).
    features: model inputs and whatever `finish` needs, owned by the stages.
    adapter: of `app/runtime/adapters.py`, which the forward is to compute with; the worker puts it in.
    """

    features: Any
    cost: int
    group: Hashable = None
    adapter: Any = None
    is_unpadded: bool = False


class Watch(Protocol):
    """What a forward that takes many steps asks between them. Used on the device thread."""

    def step(self) -> None:
        """A step is computed: the time limit of a forward begins anew."""
        ...

    def is_cancelled(self, index: int) -> bool:
        """Whether nobody waits for the item any more that the forward was given at this index."""
        ...

    def write(self, index: int, tokens: Sequence[int], logprobs: Sequence[float] = ()) -> None:
        """What a step added to the item at this index, for whoever reads along; most items nobody does.

        logprobs: of each token, where they are known.
        """
        ...


class _Unwatched:
    def step(self) -> None:
        pass

    def is_cancelled(self, index: int) -> bool:
        return False

    def write(self, index: int, tokens: Sequence[int], logprobs: Sequence[float] = ()) -> None:
        pass


UNWATCHED: Watch = _Unwatched()


class Stages(Protocol):
    """One task on one loaded model. `prepare` and `finish` run in CPU threads, `forward` on the device thread.

    `prepare` and `finish` are called from one thread each (a clone per thread: see `LoadedModel.stages`), so an
    implementation may own a tokenizer and need not lock it.
    """

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        """Items of each input, in order. Raises InvalidInput or InputTooLarge, with `param` such as `inputs[2]`."""
        ...

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> Iterable[Any]:
        """One output per item, in order, on CPU memory, trimmed of padding. A cancelled item's output is not looked at.

        A forward of many steps (generation) asks `watch` at each.
        """
        ...

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        """The answer to one input, from all of its items: str, int, float, list, dict, numpy arrays, and the `Picture`
        and `Sound` of `app/media/answers.py`."""
        ...


class LoadedModel(Protocol):
    """A model on its devices, serving one or more tasks from one copy of its weights."""

    devices: tuple[str, ...]  # "cpu", "cuda:0"; the first takes the inputs
    dtype: str  # "float32", ...
    num_parameters: int
    max_length: int | None  # tokens
    embedding_size: int | None
    largest_difference: float | None  # from torch, of an export that was made here; a share of the largest output
    engine: Any  # an `Engine` of app/runtime/generation, for the tasks whose stages are `GeneratingStages`; or None
    adapters: Any  # `Adapters` of app/runtime/adapters.py, where the model takes some; or None
    compiled: Any  # `Compiled` of app/runtime/compiling.py, where its warm-up compiles; or None

    def tasks(self) -> list[str]: ...

    def stages(self, task: str) -> Stages:
        """Fresh stages with a tokenizer of their own (weights shared), for one more thread."""
        ...

    def warm_up(self) -> None:
        """One small forward per task, so that the first request pays for no lazy initialisation."""
        ...

    def set_num_threads(self, num_threads: int) -> None:
        """Compute threads of the device thread's forwards. Call it on the device thread."""
        ...
