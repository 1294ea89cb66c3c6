"""sparse-embedding: SPLADE's vectors, log(1 + relu(logits)) of a masked language model, the greatest of all tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.parts import Parts
from app.runtime.pipelines import MAX_LOGITS_BYTES, PipelineStages


class SparseEmbeddingStages(PipelineStages):
    """A text per item. Only one vector of the vocabulary's size leaves the device for each."""

    def __init__(self, parts: Parts, max_logits_bytes: int = MAX_LOGITS_BYTES) -> None:
        super().__init__(parts)
        self._max_logits_bytes = max_logits_bytes
        self._is_unpadded = False  # the head, which computes the padding too, is most of the work

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        side = parameters.get("truncation_direction", "right").lower()
        rows = self._encoder.encode(inputs, truncate=parameters.get("truncate") is True, side=side)
        return [[self._item(row)] for row in rows]

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[torch.Tensor]:
        """[vocabulary] per item, float32 on CPU."""
        row_bytes = max(item.cost for item in items) * self._model.config.vocab_size * 4
        num_rows = max(1, self._max_logits_bytes // row_bytes)
        return [
            vector
            for start in range(0, len(items), num_rows)
            for vector in self._vectors(items[start : start + num_rows])
        ]

    def _vectors(self, items: Sequence[Item]) -> list[torch.Tensor]:
        inputs = self._collator.collate([item.features.inputs for item in items])
        logits = self._model(**inputs).logits.float()
        # The greatest is the same before as after the two functions, which only rise; NaN stays NaN in both.
        hidden = (inputs["attention_mask"] == 0)[..., None]
        return list(logits.masked_fill(hidden, -torch.inf).amax(1).relu().log1p().cpu())

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (vector,) = outputs
        require_finite(vector)
        (indices,) = vector.nonzero(as_tuple=True)
        return [
            {"index": index, "value": value}
            for index, value in zip(indices.tolist(), vector[indices].tolist(), strict=True)
        ]
