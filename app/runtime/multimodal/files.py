"""The files in a conversation, decoded where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import InvalidInput
from app.media.audio import decode_audio
from app.media.images import decode_image
from app.media.limits import MediaLimits

_FRAMES_OF_A_TOKEN = 4  # encoders of speech halve their frames twice


def has_files(messages: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        part["type"] != "text"
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def decoded_parts(
    messages: Sequence[Mapping[str, Any]], processor: Any, limits: MediaLimits, param: str
) -> list[dict[str, Any]]:
    """The messages with every content as parts, files decoded. Raises InvalidInput naming the part."""
    decoded = []
    for place, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list):
            where = f"{param}[{place}].content"
            content = [_part(part, processor, limits, f"{where}[{index}]") for index, part in enumerate(content)]
        else:
            content = [{"type": "text", "text": content or ""}]
        decoded.append({**message, "content": content})
    return decoded


def _part(part: Mapping[str, Any], processor: Any, limits: MediaLimits, param: str) -> dict[str, Any]:
    if part["type"] == "image":
        if getattr(processor, "image_processor", None) is None:
            raise InvalidInput(f"{param}: this model sees no images.", param=param)
        return {"type": "image", "image": decode_image(part["image"], limits, param=param)}
    if part["type"] == "audio":
        extractor = getattr(processor, "feature_extractor", None)
        if extractor is None:
            raise InvalidInput(f"{param}: this model hears no sounds.", param=param)
        samples = decode_audio(part["audio"], extractor.sampling_rate, limits, param=param)
        shortest = _FRAMES_OF_A_TOKEN * getattr(extractor, "hop_length", 160)
        if len(samples) < shortest:
            seconds = shortest / extractor.sampling_rate
            raise InvalidInput(f"{param} is too short: this model hears {seconds:g} s at least.", param=param)
        return {"type": "audio", "audio": samples}
    return dict(part)
