"""The stages of image-feature-extraction, and of text vectors in the same space by models such as CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from app.errors import InvalidInput, NotAvailable
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.stacking import Row, shape_of, stack
from app.runtime.vision.images import ImageStages
from app.runtime.vision.text_tower import TextTower, pooled


class ImageFeatureStages(ImageStages):
    """[patches, size], or [size] pooled. A model that has a place for texts as well (CLIP) answers its image vector."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._has_one_space = hasattr(parts.model, "get_image_features")

    @torch.inference_mode()
    def _output(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        rows = [item.features.row for item in items]
        inputs = stack(rows, self._model.device, self._model.dtype)
        if self._has_one_space:
            return {"pooler_output": pooled(self._model.get_image_features(**inputs))}
        output = self._model(**inputs)
        found = {"first": output[0]}
        if getattr(output, "pooler_output", None) is not None:
            found["pooler_output"] = output.pooler_output
        return found

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        (output,) = outputs
        name = "first" if "first" in output and not parameters.get("pool") else "pooler_output"
        if name not in output:
            raise InvalidInput("parameters.pool: this model makes no pooled vector.", param="parameters.pool")
        vector = output[name][0].numpy()
        require_finite(vector)
        return np.ascontiguousarray(vector)


class TextFeatureStages(OwnStages):
    """feature-extraction by a model with one space for images and texts: the text's vector, scaled if asked."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        if not hasattr(parts.model, "get_text_features"):
            raise NotAvailable("This model has no vectors for texts.")
        self._tower = TextTower(parts)

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        self._tower.release()

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        for name in parameters:
            if name not in ("normalize", "truncate", "encoding_format"):
                raise InvalidInput(
                    f"parameters.{name}: a model of images and texts does not know it.", param=f"parameters.{name}"
                )
        rows = self._tower.encode(list(inputs), truncate=parameters.get("truncate") is not False)
        return [[Item(row, row["input_ids"].shape[1], shape_of(row))] for row in rows]

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """[size] per text, float32 on CPU."""
        rows: list[Row] = [item.features for item in items]
        return list(self._tower.vectors(rows).float().cpu())

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        (vector,) = outputs
        require_finite(vector)
        if parameters.get("normalize"):
            vector = vector / vector.norm().clamp(min=1e-12)
        return vector.numpy()
