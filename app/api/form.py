"""multipart/form-data as the body of a task: files in the task's media field, all else where JSON would have it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.errors import InvalidInput, MalformedBody
from app.tasks.base import Task
from app.tasks.requests import BODY_FIELDS

MAX_PARTS = 256


@dataclass
class Form:
    """Names and values, in the order of the form."""

    files: list[tuple[str, bytes]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)


class _InMemory(MultiPartParser):
    """The body is in memory already, and its size was checked: no part goes to a disk."""

    spool_max_size = 2**62


async def read_form(raw: bytes, content_type: str) -> Form:
    """Raises MalformedBody."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield raw

    headers = Headers({"content-type": content_type})
    try:
        parsed = await _InMemory(
            headers, chunks(), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=max(1, len(raw))
        ).parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        reason = str(getattr(error, "message", None) or error).rstrip(".")
        raise MalformedBody(f"The form cannot be read: {reason}.") from None
    form = Form()
    for name, value in parsed.multi_items():
        if isinstance(value, UploadFile):
            form.files.append((name, await value.read()))
        else:
            form.texts.append((name, value))
    await parsed.close()
    return form


def form_body(form: Form, task: Task) -> dict[str, Any]:
    """The task's body. Texts of a parameter's name are parameters, read as JSON where they are JSON."""
    body: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    for name, text in form.texts:
        if name == "parameters":
            parameters.update(_object(text))
        elif name in task.parameters.model_fields:
            parameters[name] = _value(text)
        elif name == "options":
            body[name] = _object(text)
        elif name in BODY_FIELDS or task.media_field == "inputs":
            body[name] = text
        else:
            inputs[name] = text
    if form.files:
        _put_files([file for _, file in form.files], body, inputs, task)
    if inputs:
        body["inputs"] = inputs
    if parameters:
        body["parameters"] = parameters
    return body


def _put_files(files: list[bytes], body: dict[str, Any], inputs: dict[str, Any], task: Task) -> None:
    assert task.media_field is not None, "A form was read for a task without media. This is a bug."
    if task.media_field == "inputs":
        body["inputs"] = files[0] if len(files) == 1 else files
        return
    if len(files) > 1:
        raise InvalidInput(f"The form holds {len(files)} files; {task.name} takes one.", param="inputs")
    inputs[task.media_field.removeprefix("inputs.")] = files[0]


def _object(text: str) -> dict[str, Any]:
    value = _value(text)
    if not isinstance(value, dict):
        raise InvalidInput("parameters must be a JSON object.", param="parameters")
    return value


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
