"""The stages of image-classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import ImageClassificationPipeline

from app.runtime.base import Item
from app.runtime.finite import require_finite
from app.runtime.parts import Parts
from app.runtime.vision.images import ImageStages


class ImageClassificationStages(ImageStages):
    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._pipeline = ImageClassificationPipeline(
            model=parts.model, image_processor=parts.image_processor, device=parts.device
        )

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        logits = outputs[0]["logits"]
        require_finite(logits)
        _, _, options = self._pipeline._sanitize_parameters(
            function_to_apply=parameters.get("function_to_apply"), top_k=parameters.get("top_k")
        )
        labels: list[dict[str, Any]] = self._pipeline.postprocess({"logits": logits}, **options)
        return labels
