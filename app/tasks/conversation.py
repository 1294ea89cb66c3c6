"""Conversations with files in them: messages whose content is a text or a list of parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from app.tasks.base import Inputs
from app.tasks.media import Audio, Image
from app.tasks.text import Text

MAX_MESSAGES, MAX_PARTS = 512, 128


class TextPart(Inputs):
    type: Literal["text"]
    text: str


class ImagePart(Inputs):
    """The image under `image`, `url`, `base64` or, as OpenAI writes it, `image_url` with a `url` in it."""

    type: Literal["image"]
    image: Image

    @model_validator(mode="before")
    @classmethod
    def _accept_variants(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("type") not in ("image", "image_url"):
            return values
        found = next((values[name] for name in ("image", "image_url", "url", "base64") if name in values), None)
        if isinstance(found, dict):
            found = found.get("url")
        return {"type": "image", "image": found}


class AudioPart(Inputs):
    """The sound under `audio`, `url`, `base64` or, as OpenAI writes it, `input_audio` with `data` in it."""

    type: Literal["audio"]
    audio: Audio

    @model_validator(mode="before")
    @classmethod
    def _accept_variants(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("type") not in ("audio", "input_audio"):
            return values
        found = next((values[name] for name in ("audio", "input_audio", "url", "base64") if name in values), None)
        if isinstance(found, dict):
            found = found.get("data")
        return {"type": "audio", "audio": found}


_PARTS: dict[str, type[TextPart | ImagePart | AudioPart]] = {
    "text": TextPart,
    "image": ImagePart,
    "image_url": ImagePart,
    "audio": AudioPart,
    "input_audio": AudioPart,
}


class Message(Inputs):
    """role: as the model's chat template knows it, such as system, user, assistant."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    role: Text
    content: str | Annotated[list[TextPart | ImagePart | AudioPart], Field(max_length=MAX_PARTS)]

    @model_validator(mode="before")
    @classmethod
    def _read_parts(cls, values: Any) -> Any:
        """Each part by its `type`, so that an error is about that type."""
        if not isinstance(values, dict) or not isinstance(values.get("content"), list):
            return values
        return {**values, "content": [read_part(one) for one in values["content"]]}


def read_part(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in _PARTS:
        raise ValueError(f"a part of a message has a type: {', '.join(_PARTS)}")
    try:
        return TypeAdapter(_PARTS[kind]).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"a part of type {kind}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]


class ImagesAndText(Inputs):
    """images: those that the text speaks of, in their order."""

    images: Annotated[list[Image], Field(max_length=MAX_PARTS)] = []
    text: Text

    @model_validator(mode="before")
    @classmethod
    def _accept_one(cls, values: Any) -> Any:
        """One as `image`."""
        if isinstance(values, dict) and "image" in values and "images" not in values:
            return {("images" if name == "image" else name): value for name, value in values.items()} | {
                "images": [values["image"]]
            }
        return values


class Conversation(Inputs):
    messages: Messages


def is_one_conversation(inputs: Any, parameters: dict[str, Any]) -> bool:
    """A list of messages is one input; a list of anything else is several."""
    if not isinstance(inputs, list):
        return True
    return bool(inputs) and isinstance(inputs[0], dict) and "role" in inputs[0]


def as_conversation(body: dict[str, Any]) -> dict[str, Any]:
    """`messages`, or an image and a text, may stand at the root; a list of messages is a conversation."""
    at_root = {name: body[name] for name in ("messages", "image", "images", "text") if name in body}
    if at_root and body.get("inputs") is None:
        body = {**{name: value for name, value in body.items() if name not in at_root}, "inputs": at_root}
    if is_one_conversation(inputs := body.get("inputs"), {}) and isinstance(inputs, list):
        return {**body, "inputs": {"messages": inputs}}
    if isinstance(inputs, list):
        return {**body, "inputs": [{"messages": one} if isinstance(one, list) else one for one in inputs]}
    return body
