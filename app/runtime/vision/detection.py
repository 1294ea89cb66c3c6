"""The stages of object-detection and zero-shot-object-detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import ObjectDetectionPipeline, ZeroShotObjectDetectionPipeline

from app.media.images import decode_image
from app.runtime.base import Item
from app.runtime.parts import Parts
from app.runtime.stacking import Row, shape_of
from app.runtime.tokenizing import Encoder
from app.runtime.vision.images import ImageFeatures, ImageStages, cost_of
from app.runtime.vision.outputs import checked


class ObjectDetectionStages(ImageStages):
    """Images that the processor makes equally large share a forward; DETR would feel the padding of others."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._pipeline = ObjectDetectionPipeline(
            model=parts.model, image_processor=parts.image_processor, device=parts.device
        )

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (item,), (output,) = items, outputs
        size = torch.tensor([item.features.size])
        found: list[dict[str, Any]] = self._pipeline.postprocess(
            checked(output, target_size=size), threshold=parameters.get("threshold", 0.5)
        )
        return found


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One label looked for in an image."""

    row: Row
    size: tuple[int, int]
    label: str


class ZeroShotObjectDetectionStages(ImageStages):
    """One item per label: the model looks for each by itself, as in the pipeline. The image is processed once."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizers = parts.require_tokenizers()
        self._encoder = Encoder(tokenizers, parts.limit)
        self._pipeline = ZeroShotObjectDetectionPipeline(
            model=parts.model,
            image_processor=parts.image_processor,
            tokenizer=tokenizers.shared,  # not asked: labels are encoded here
            device=parts.device,
        )

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        self._encoder.release()

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        labels = parameters["candidate_labels"]
        encoded = self._encoder.encode(labels, truncate=True)
        texts = [{name: torch.tensor([values]) for name, values in row.items()} for row in encoded]
        return [
            self._items(data, list(zip(labels, texts, strict=True)), f"inputs[{index}]")
            for index, data in enumerate(inputs)
        ]

    def _items(self, data: bytes, labels: list[tuple[str, Row]], param: str) -> list[Item]:
        image = decode_image(data, self._parts.media, param=param)
        pixels: ImageFeatures = ImageFeatures(self._processed(image, param), (image.height, image.width))
        items = []
        for label, text in labels:
            row = {**text, **pixels.row}
            items.append(Item(LabelledImage(row, pixels.size, label), cost_of(row), shape_of(row)))
        return items

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._pipeline.postprocess(
            [
                checked(output, target_size=torch.tensor([item.features.size]), candidate_label=item.features.label)
                for item, output in zip(items, outputs, strict=True)
            ],
            threshold=parameters.get("threshold", 0.1),
            top_k=parameters.get("top_k"),
        )
        return found
