"""The stages of image-text-to-text and any-to-any: a conversation through the processor's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import InvalidInput, NotAvailable
from app.media.audio import decode_audio
from app.media.images import decode_image
from app.runtime.base import Item
from app.runtime.multimodal.writing import WritingStages
from app.runtime.parts import Parts
from app.runtime.tokenizing import BAD_INPUT

_NO_FILE = "(file)"
_FRAMES_OF_A_TOKEN = 4  # encoders of speech halve their frames twice


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
                return self._chat_row(self._decoded(one_input["messages"], param))
            images = [self._image(data, f"{param}.images") for data in one_input.get("images", [])]
            row: Mapping[str, Any] = self._processor(text=one_input["text"], images=images or None, return_tensors="pt")
            return row
        except (*BAD_INPUT, RuntimeError, AttributeError) as error:
            raise InvalidInput(f"{param}: the model's processor cannot take it: {error}.", param=param) from error

    def _decoded(self, messages: Sequence[Mapping[str, Any]], param: str) -> list[dict[str, Any]]:
        decoded = []
        for place, message in enumerate(messages):
            content = message["content"]
            if not isinstance(content, str):
                where = f"{param}[{place}].content"
                content = [self._part(part, f"{where}[{index}]") for index, part in enumerate(content)]
            else:
                content = [{"type": "text", "text": content}]
            decoded.append({"role": message["role"], "content": content})
        return decoded

    def _part(self, part: Mapping[str, Any], param: str) -> dict[str, Any]:
        if part["type"] == "image":
            if getattr(self._processor, "image_processor", None) is None:
                raise InvalidInput(f"{param}: this model sees no images.", param=param)
            return {"type": "image", "image": self._image(part["image"], param)}
        if part["type"] == "audio":
            extractor = getattr(self._processor, "feature_extractor", None)
            if extractor is None:
                raise InvalidInput(f"{param}: this model hears no sounds.", param=param)
            samples = decode_audio(part["audio"], extractor.sampling_rate, self._parts.media, param=param)
            shortest = _FRAMES_OF_A_TOKEN * getattr(extractor, "hop_length", 160)
            if len(samples) < shortest:
                seconds = shortest / extractor.sampling_rate
                raise InvalidInput(f"{param} is too short: this model hears {seconds:g} s at least.", param=param)
            return {"type": "audio", "audio": samples}
        return dict(part)

    def _image(self, data: bytes, param: str) -> Any:
        return decode_image(data, self._parts.media, param=param)

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
