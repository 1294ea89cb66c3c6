"""The media types that tasks are made of, and the places in which clients put media.

Media stay encoded here (the bytes of a file): they are decoded where they are used, in the worker. A string is base64,
a data URI or a URL; it is never a path.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from pydantic import PlainValidator, WithJsonSchema

from app.errors import InvalidInput

_DATA_URI = re.compile(r"data:[\w.+-]*(?:/[\w.+-]*)?(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.ASCII | re.IGNORECASE)
_MAX_URI_HEAD = 1024  # characters of a data URI before its data
_SPACES = re.compile(r"\s+")


class RemoteMedia(msgspec.Struct, frozen=True):
    """A URL in the place of a file: the API process puts the file there, or refuses it, before a worker sees it."""

    url: str


def read_media(value: Any) -> bytes | RemoteMedia:
    """Raises ValueError with a sentence that does not repeat the value."""
    if isinstance(value, bytes):
        data = value
    elif not isinstance(value, str):
        raise ValueError("must be a file: raw bytes, base64 or a data URI")
    elif value[:8].lower().startswith(("http://", "https://")):
        return RemoteMedia(value)
    else:
        data = _decoded(value)
    if not data:
        raise ValueError("is an empty file")
    return data


def _decoded(text: str) -> bytes:
    """base64 with or without line breaks and padding, of both alphabets, or a data URI."""
    if text[:5].lower() == "data:":
        found = _DATA_URI.match(text[:_MAX_URI_HEAD])
        if found is None or found[1] is None:
            raise ValueError("is a data URI that is not base64: write data:<type>;base64,<file>")
        text = text[found.end() :]
    try:
        return base64.b64decode(text, validate=True)  # the usual case, and for large files the fast one
    except (binascii.Error, ValueError):
        text = _SPACES.sub("", text).translate(_TO_STANDARD).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64 (nor a data URI or URL); a path on the server is never read") from None


_TO_STANDARD = str.maketrans("-_", "+/")


def _media(kind: str) -> Any:
    text = f"{kind}: base64 of the file, a data URI, or a URL where the server allows these."
    schema = {"type": "string", "format": "byte", "description": text}
    return Annotated[Any, PlainValidator(read_media), WithJsonSchema(schema)]


Image = _media("An image")
Audio = _media("A sound")
Video = _media("A video")


def remote_places(inputs: Any, place: str = "inputs") -> list[tuple[str, RemoteMedia]]:
    """Where URLs stand in validated inputs: a path such as `inputs[0].image` for each."""
    if isinstance(inputs, RemoteMedia):
        return [(place, inputs)]
    found = []
    if isinstance(inputs, dict):
        found = [one for name, child in inputs.items() for one in remote_places(child, f"{place}.{name}")]
    elif isinstance(inputs, list | tuple):
        found = [one for index, child in enumerate(inputs) for one in remote_places(child, f"{place}[{index}]")]
    return found


def with_files(inputs: Any, files: dict[str, bytes]) -> Any:
    """The inputs with each URL replaced by its file. files: by URL."""
    if isinstance(inputs, RemoteMedia):
        return files[inputs.url]
    if isinstance(inputs, dict):
        return {name: with_files(child, files) for name, child in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [with_files(child, files) for child in inputs]
    return inputs


def single_media(field: str, *, parameters: Sequence[str] = ()) -> Any:
    """A `normalize` for tasks whose one input is a file: takes `{"image": ...}` at the root or as `inputs.image`, and
    lifts these parameters out of `inputs` and from the root."""

    def normalize(body: dict[str, Any]) -> dict[str, Any]:
        body = dict(body)
        if field in body:
            _move_root_field(body, field)
        inputs = body.get("inputs")
        if isinstance(inputs, dict) and field in inputs:
            rest = {name: value for name, value in inputs.items() if name != field}
            lifted = {name: rest.pop(name) for name in parameters if name in rest}
            if rest:
                name = next(iter(rest))
                raise InvalidInput(f"inputs.{name}: no such field; there is {field}.", param=f"inputs.{name}")
            body["inputs"] = inputs[field]
            _add_parameters(body, lifted)
        _add_parameters(body, {name: body.pop(name) for name in parameters if name in body})
        return body

    return normalize


def object_media(fields: Sequence[str]) -> Any:
    """A `normalize` for tasks whose input is an object (`{"image", "question"}`): its fields may stand at the root, as
    `InferenceClient` sends them, beside an `inputs` that repeats the first of them."""

    def normalize(body: dict[str, Any]) -> dict[str, Any]:
        at_root = {name: body[name] for name in fields if name in body}
        if not at_root:
            return body
        body = {name: value for name, value in body.items() if name not in at_root}
        inputs = body.get("inputs")
        if isinstance(inputs, dict):
            body["inputs"] = {**at_root, **inputs}
        elif inputs is None or isinstance(inputs, str | bytes):
            body["inputs"] = at_root if inputs is None else {fields[0]: inputs, **at_root}
        return body

    return normalize


def _move_root_field(body: dict[str, Any], field: str) -> None:
    value = body.pop(field)
    body.setdefault("inputs", value)
    if body["inputs"] is None:
        body["inputs"] = value


def _add_parameters(body: dict[str, Any], moved: dict[str, Any]) -> None:
    if not moved:
        return
    given = body.get("parameters")
    if given is None or isinstance(given, dict):
        body["parameters"] = {**moved, **(given or {})}
