"""How long a model takes for requests, and what its network gives for them: `pipeserve tune` asks the worker."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from app.channel.messages import Measure, Measured
from app.errors import NotAvailable
from app.runtime.base import Item, Stages


def measure(stages: Stages, order: Measure, max_items: int, clock: Callable[[], float]) -> Measured:
    """On the device thread, all three stages, as a worker computes a request that comes alone. Raises what they raise,
    and NotAvailable where the network's outputs hold no numbers that could be compared."""
    seconds: list[float] = []
    kept: list[bytes] = []
    first_timed_at = clock()
    for index, inputs in enumerate(order.requests):
        began_at = clock()
        if index == 1:
            first_timed_at = began_at
        if index > 1 and began_at - first_timed_at > order.limit_s:
            break
        rows = stages.prepare(inputs, order.parameters)
        outputs = _forward(stages, [item for row in rows for item in row], max_items)
        if order.keeps_outputs:
            kept += [_numbers(one, order.task) for one in outputs]
        _finish(stages, rows, outputs, order.parameters)
        if index > 0:
            seconds.append(clock() - began_at)
    return Measured(seconds=seconds, outputs=kept)


def _forward(stages: Stages, items: Sequence[Item], max_items: int) -> list[Any]:
    groups: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.group, []).append(index)
    outputs: list[Any] = [None] * len(items)
    for members in groups.values():
        for start in range(0, len(members), max_items):
            chosen = members[start : start + max_items]
            computed = stages.forward([items[index] for index in chosen])
            for index, output in zip(chosen, computed, strict=True):
                outputs[index] = output
    return outputs


def _finish(stages: Stages, rows: Sequence[Sequence[Item]], outputs: Sequence[Any], parameters: dict[str, Any]) -> None:
    """The answers are made and dropped."""
    start = 0
    for row in rows:
        stages.finish(row, outputs[start : start + len(row)], parameters)
        start += len(row)


def _numbers(output: Any, task: str) -> bytes:
    found = [array.astype(np.float32).ravel() for array in _arrays(output)]
    if not found:
        raise NotAvailable(f"the network's output for {task} holds no numbers that could be compared")
    return np.concatenate(found).tobytes()


def _arrays(output: Any) -> Iterator[np.ndarray[Any, Any]]:
    """Every array and tensor of floating-point numbers."""
    if isinstance(output, Mapping):
        for value in output.values():
            yield from _arrays(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _arrays(value)
    elif is_dataclass(output) and not isinstance(output, type):
        for field in fields(output):
            yield from _arrays(getattr(output, field.name))
    elif isinstance(output, np.ndarray | np.generic):
        if output.dtype.kind == "f":
            yield np.asarray(output)
    elif hasattr(output, "is_floating_point") and output.is_floating_point():  # a tensor; torch is not imported here
        yield output.detach().float().cpu().numpy()
