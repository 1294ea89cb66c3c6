"""The stages of image-segmentation: semantic, instance and panoptic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL.Image import Image
from transformers import ImageSegmentationPipeline

from app.errors import InvalidInput
from app.media.answers import Picture
from app.runtime.base import Item
from app.runtime.parts import Parts
from app.runtime.stacking import Row
from app.runtime.vision.images import ImageStages
from app.runtime.vision.outputs import checked

_SUBTASKS = ("panoptic", "instance", "semantic")


class ImageSegmentationStages(ImageStages):
    """A mask for each part of the image that the model tells apart."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizer = None if parts.tokenizers is None else parts.tokenizers.shared
        self._pipeline = ImageSegmentationPipeline(
            model=parts.model, image_processor=parts.image_processor, tokenizer=tokenizer, device=parts.device
        )

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        subtask = parameters.get("subtask")
        known = [
            name for name in _SUBTASKS if hasattr(self._parts.image_processor, f"post_process_{name}_segmentation")
        ]
        if subtask is not None and subtask not in known:
            name = "parameters.subtask"
            raise InvalidInput(f"{name}: this model does not do {subtask}; it does {' and '.join(known)}.", param=name)
        return super().prepare(inputs, parameters)

    def _row(self, image: Image) -> Row:
        row = dict(self._pipeline.preprocess(image))
        del row["target_size"]
        return row

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (item,), (output,) = items, outputs
        names = ("subtask", "threshold", "mask_threshold", "overlap_mask_area_threshold")
        options = {name: parameters[name] for name in names if name in parameters}
        found = self._pipeline.postprocess(checked(output, target_size=[item.features.size]), **options)
        return [_segment(one) for one in found]


def _segment(found: dict[str, Any]) -> dict[str, Any]:
    """Without a score where the model gives none."""
    segment = {"label": found["label"], "mask": Picture(found["mask"])}
    return segment if found["score"] is None else {"score": float(found["score"]), **segment}
