"""The stages of image-to-text: encoder-decoders of vision, captioning models, and models that are asked to describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image

from app.errors import InvalidInput, NotAvailable
from app.media.images import decode_image
from app.runtime.base import Item
from app.runtime.multimodal.writing import WritingStages, about
from app.runtime.parts import Parts
from app.runtime.vision.images import BAD_IMAGE

PROMPT = "Describe this image."
"""Put to models that answer chats; others caption without being asked."""


class ImageToTextStages(WritingStages):
    """One item per image."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._has_processor = hasattr(parts.processor, "image_processor")
        if not self._has_processor and (parts.image_processor is None or parts.tokenizers is None):
            raise NotAvailable("This model has neither a processor nor an image processor with a tokenizer.")

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        options = self._options(parameters)
        items = []
        for index, data in enumerate(inputs):
            param = f"inputs[{index}]"
            image = decode_image(data, self._parts.media, param=param)
            try:
                row = self._row(image)
            except BAD_IMAGE as error:
                raise InvalidInput(f"{param}: the model's processor cannot take it: {error}.", param=param) from error
            items.append([self._page(row, options, None, param)])
        return items

    def _row(self, image: Image) -> Mapping[str, Any]:
        row: Mapping[str, Any]
        if not self._has_processor:
            row = self._parts.image_processor(images=image, return_tensors="pt")
        elif getattr(self._processor, "chat_template", None):
            row = self._chat_row(about(image, PROMPT))
        else:
            row = self._processor(images=image, return_tensors="pt")
        return row

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (written,) = outputs
        return [{"generated_text": self._text(one)} for one in written]
