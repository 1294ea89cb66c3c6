"""What the image tasks share: a file becomes a row of pixels, and rows of equal shapes share a forward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image

from app.errors import InvalidInput
from app.media.images import decode_image
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.parts import OwnStages
from app.runtime.stacking import Row, shape_of, stack, unstack
from app.runtime.tokenizing import BAD_INPUT

PIXELS_PER_TOKEN = 256  # a patch of 16 × 16 costs what a token costs
BAD_IMAGE = (*BAD_INPUT, RuntimeError, ZeroDivisionError, OverflowError)
"""What processors raise for images that they cannot take, such as one of a single pixel."""


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """row: the model's inputs, each with a first axis of length 1. size: height and width of the image, in pixels."""

    row: Row
    size: tuple[int, int]


def cost_of(row: Row) -> int:
    """Of the largest of its tensors."""
    numbers = max(value.numel() for value in row.values() if isinstance(value, torch.Tensor))
    return max(1, numbers // (3 * PIXELS_PER_TOKEN))


class ImageStages(OwnStages):
    """One item per image."""

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[self._item(data, f"inputs[{index}]")] for index, data in enumerate(inputs)]

    def _item(self, data: bytes, param: str) -> Item:
        image = decode_image(data, self._parts.media, param=param)
        row = self._processed(image, param)
        return Item(ImageFeatures(row, (image.height, image.width)), cost_of(row), shape_of(row))

    def _processed(self, image: Image, param: str) -> Row:
        """The model's inputs. Raises InvalidInput where the processor cannot take the image."""
        try:
            return self._row(image)
        except BAD_IMAGE as error:
            raise InvalidInput(
                f"{param} has {image.width} x {image.height} pixels, which the model's processor cannot take: {error}.",
                param=param,
            ) from error

    def _row(self, image: Image) -> Row:
        return dict(self._parts.image_processor(images=image, return_tensors="pt"))

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """Each row's part of the model's output, on CPU, with a first axis of length 1."""
        return unstack(self._output(items), len(items))

    @torch.inference_mode()
    def _output(self, items: Sequence[Item]) -> Any:
        rows = [item.features.row for item in items]
        return self._model(**stack(rows, self._model.device, self._model.dtype))

    @abstractmethod
    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any: ...
