"""multipart/form-data as the body of a task: files in the task's media field, all else where JSON would have it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.api.json_text import read_json
from app.errors import InvalidInput, MalformedBody
from app.tasks.base import Task
from app.tasks.requests import BODY_FIELDS

MAX_PARTS = 256
MAX_PART_HEAD = 8 * 1024
MAX_BOUNDARY = 256
"""Bytes, as of the headers of a part."""


@dataclass
class Form:
    """Names and values, in the order of the form."""

    files: list[tuple[str, bytes]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)


def read_form(raw: bytes, content_type: str) -> Form:
    """raw: within the server's limit; all of it is here, so that a part is what lies between two delimiters. A part
    with a file name is a file. Texts are UTF-8 whatever the form says: Python knows codecs that take long, raise, or
    make what no other text may hold. Raises MalformedBody.
    """
    form = Form()
    for head, content in _parts(raw, _boundary(content_type)):
        options = _disposition(head)
        name = options.get(b"name")
        if name is None:
            raise _unreadable('a part\'s Content-Disposition has no "name"')
        if b"filename" in options:
            form.files.append((_text(name), content))
        else:
            form.texts.append((_text(name), _text(content)))
    return form


def _unreadable(why: str) -> MalformedBody:
    return MalformedBody(f"The form cannot be read: {why}.")


def _boundary(content_type: str) -> bytes:
    boundary = _options(content_type.encode("latin-1", "replace")).get(b"boundary", b"")
    if not boundary:
        raise _unreadable("its Content-Type names no boundary")
    if len(boundary) > MAX_BOUNDARY:
        raise _unreadable(f"its boundary has {len(boundary)} characters; the limit is {MAX_BOUNDARY}")
    return boundary


def _parts(raw: bytes, boundary: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each part's headers and content (RFC 2046, 5.1.1). What stands before the first delimiter and behind the last is
    for readers that know no forms."""
    delimiter = re.compile(rb"\r\n--%b(?:--|[ \t]*\r\n)" % re.escape(boundary))
    before = re.compile(rb"--%b(?:--|[ \t]*\r\n)" % re.escape(boundary)).match(raw) or delimiter.search(raw)
    for num_parts in range(MAX_PARTS + 1):
        if before is None:
            raise _unreadable("it ends before its closing boundary")
        if before[0].endswith(b"--"):
            return
        if num_parts == MAX_PARTS:
            raise _unreadable(f"it has more than {MAX_PARTS} parts")
        after = delimiter.search(raw, before.end())
        end = len(raw) if after is None else after.start()
        blank_line = raw.find(b"\r\n\r\n", before.end(), min(end, before.end() + MAX_PART_HEAD))
        if blank_line < 0:
            raise _unreadable(f"a part has no blank line after its headers, within {MAX_PART_HEAD} bytes")
        if after is not None:
            yield raw[before.end() : blank_line], raw[blank_line + 4 : end]
        before = after


def _disposition(head: bytes) -> dict[bytes, bytes]:
    """The options of a part's Content-Disposition."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            return _options(value)
    return {}


_OPTION = re.compile(rb';\s*([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*+"?|[^;]*)', re.DOTALL)
_ESCAPED = re.compile(rb'\\(["\\])')


def _options(header: bytes) -> dict[bytes, bytes]:
    """What follows a header's first word. Forms have none of the extended kind (`filename*`, RFC 7578, 4.2)."""
    return {name.lower(): _unquoted(value) for name, value in _OPTION.findall(header)}


def _unquoted(value: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", value[1:].removesuffix(b'"')) if value.startswith(b'"') else value.strip()


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


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
        return read_json(text)
    except ValueError:
        return text
