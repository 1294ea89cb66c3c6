"""Rows of equal shapes -> the tensors of one forward, and back: without padding, so that it changes no answer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch

Row = Mapping[str, Any]
"""The tensors of one item, each with a first axis of length 1; values that are no tensors go along as they are."""


def shape_of(row: Row) -> Hashable:
    """What two rows must have in common to share a forward: names, shapes and dtypes; other values must be equal."""
    return tuple(
        (name, tuple(value.shape[1:]), value.dtype) if isinstance(value, torch.Tensor) else (name, repr(value))
        for name, value in sorted(row.items())
    )


def stack(rows: Sequence[Row], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Tensors of all rows along the first axis, on the device; floating ones in the model's dtype."""
    return {name: _stacked([row[name] for row in rows], device, dtype) for name in rows[0]}


def _stacked(values: Sequence[Any], device: torch.device, dtype: torch.dtype) -> Any:
    if not isinstance(values[0], torch.Tensor):
        return values[0]
    together = values[0] if len(values) == 1 else torch.cat(list(values))
    if together.is_floating_point():
        return together.to(device, dtype, non_blocking=True)
    return together.to(device, non_blocking=True)


def unstack(output: Mapping[str, Any], num_rows: int) -> list[dict[str, Any]]:
    """Each row's part of a model's output: tensors with a first axis of length 1, on CPU, floating ones in float32.

    Tensors without a row for each input are left out, and so are values that are no tensors (caches, say). Tuples of
    tensors (hidden states, attentions) stay tuples.
    """
    rows: list[dict[str, Any]] = [{} for _ in range(num_rows)]
    for name, value in output.items():
        parts = _split(value, num_rows)
        if parts is not None:
            for row, part in zip(rows, parts, strict=True):
                row[name] = part
    return rows


def _split(value: Any, num_rows: int) -> list[Any] | None:
    if isinstance(value, torch.Tensor):
        if value.dim() == 0 or value.shape[0] != num_rows:
            return None
        on_cpu = value.float().cpu() if value.is_floating_point() else value.cpu()
        return [on_cpu[index : index + 1] for index in range(num_rows)]
    if isinstance(value, tuple | list) and value:
        parts = [_split(child, num_rows) for child in value]
        whole = [part for part in parts if part is not None]
        if len(whole) == len(parts):
            return [tuple(children) for children in zip(*whole, strict=True)]
    return None
