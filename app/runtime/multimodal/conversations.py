"""The stages of image-text-to-text and any-to-any: a conversation through the processor's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import InvalidInput, NotAvailable
from app.media.images import decode_image
from app.runtime.base import Item
from app.runtime.multimodal.files import decoded_parts
from app.runtime.multimodal.writing import WritingStages
from app.runtime.parts import Parts
from app.runtime.tokenizing import BAD_INPUT

_NO_FILE = "(file)"


class ConversationStages(WritingStages):
    """One item per conversation."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        if not hasattr(parts.processor, "tokenizer"):
            raise NotAvailable("This model has no processor for texts with images or sounds.")

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        options = self._options(parameters)
        items = []
        for index, one in enumerate(inputs):
            param = f"inputs[{index}]"
            row = self._row(one, param)
            items.append([self._page(row, options, without_files(one), param)])
        return items

    def _row(self, one_input: Mapping[str, Any], param: str) -> Mapping[str, Any]:
        try:
            if "messages" in one_input:
                return self._chat_row(decoded_parts(one_input["messages"], self._processor, self._parts.media, param))
            limits = self._parts.media
            images = [decode_image(data, limits, param=f"{param}.images") for data in one_input.get("images", [])]
            row: Mapping[str, Any] = self._processor(text=one_input["text"], images=images or None, return_tensors="pt")
            return row
        except (*BAD_INPUT, RuntimeError, AttributeError) as error:
            raise InvalidInput(f"{param}: the model's processor cannot take it: {error}.", param=param) from error

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (item,), (written,) = items, outputs
        given = item.features.given
        return [
            {"input_text": given, "generated_text": self._answer(given, self._text(one), parameters)} for one in written
        ]

    def _answer(self, given: Any, text: str, parameters: Mapping[str, Any]) -> Any:
        if not parameters.get("return_full_text"):
            return text
        return given + text if isinstance(given, str) else [*given, {"role": "assistant", "content": text}]


def without_files(one_input: Mapping[str, Any]) -> Any:
    """What was sent, a word in the place of each file."""
    if "messages" not in one_input:
        return one_input["text"]
    return [
        {
            "role": message["role"],
            "content": message["content"]
            if isinstance(message["content"], str)
            else [
                {name: _NO_FILE if isinstance(value, bytes) else value for name, value in part.items()}
                for part in message["content"]
            ],
        }
        for message in one_input["messages"]
    ]
