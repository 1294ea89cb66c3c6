"""A row's part of a model's output, in the form that processors and pipelines read: by attribute and by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from app.runtime.finite import require_finite

_CHECKED = ("logits", "pred_boxes", "pred_masks", "class_queries_logits", "masks_queries_logits", "iou_scores")


class RowOutput(dict[str, Any]):
    """As transformers' ModelOutput for one row."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def checked(output: Mapping[str, Any], **more: Any) -> RowOutput:
    """Raises BackendFailed where a number that the answer is made of is none."""
    for name in _CHECKED:
        value = output.get(name)
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            require_finite(value)
    return RowOutput(**output, **more)
