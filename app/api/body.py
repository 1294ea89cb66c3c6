"""Request bodies, read by hand: a size limit while reading, then JSON, a file or a form, whatever the Content-Type
says: only `multipart/*` is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Receive

from app.api.form import form_body, read_form
from app.api.json_text import TooDeepError, TooManyError, read_json
from app.api.large import in_thread_if_large
from app.errors import Cancelled, InputTooLarge, MalformedBody, UnsupportedMedia
from app.media.sniff import sniff
from app.tasks.base import Task

_PLAIN_ENCODINGS = ((b"content-encoding", (b"", b"identity")), (b"transfer-encoding", (b"", b"chunked")))
BINARY_MEDIA = ("image/", "audio/", "video/", "application/octet-stream", "application/pdf", "application/zip")


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], *, max_bytes: int) -> bytes:
    """Raises InputTooLarge as soon as the limit is passed, UnsupportedMedia for an encoded body, Cancelled."""
    _check_encoding(headers)
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes, f"{int(declared)} bytes")
    chunks: list[bytes] = []
    num_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("The client left before its request was complete.")
        chunk: bytes = message.get("body", b"")
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _too_large(max_bytes, "more")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(max_bytes: int, actual: str) -> InputTooLarge:
    return InputTooLarge(f"The body may have {max_bytes} bytes; this one has {actual}.")


def _check_encoding(headers: Mapping[bytes, bytes]) -> None:
    """Nothing that is sent is unpacked: a few bytes could be gigabytes."""
    for header, plain in _PLAIN_ENCODINGS:
        encoding = headers.get(header, b"").strip().lower()
        if encoding not in plain:
            name, found = header.decode().title(), encoding[:32].decode("latin-1")
            raise UnsupportedMedia(f"{name} {found!r} is not understood; send the body as it is.")


async def parse_body(raw: bytes, headers: Mapping[bytes, bytes], task: Task) -> Any:
    """The body as JSON's values, with files as bytes where the task takes media. Large ones in a thread.

    Raises MalformedBody with the position, UnsupportedMedia for what the task does not take.
    """
    media = headers.get(b"content-type", b"").decode("latin-1").strip()
    if task.media_field is not None:
        if media.lower().startswith("multipart/"):
            return form_body(await in_thread_if_large(len(raw), lambda: read_form(raw, media)), task)
        if _is_file(raw):
            return _with_file(task.media_field, raw)
    return await parse_large_json(raw, headers)


def _is_file(raw: bytes) -> bool:
    """What begins like JSON is JSON, whatever it is called; all else is a file, whether we know its kind or not."""
    return sniff(raw) is not None or (bool(raw) and raw[:64].lstrip()[:1] not in (b"{", b"[", b'"'))


def _with_file(field: str, file: bytes) -> dict[str, Any]:
    return {"inputs": file} if field == "inputs" else {"inputs": {field.removeprefix("inputs."): file}}


async def parse_large_json(raw: bytes, headers: Mapping[bytes, bytes]) -> Any:
    """As `parse_json`; what is large in a thread."""
    return await in_thread_if_large(len(raw), lambda: parse_json(raw, headers))


async def parse_object(raw: bytes, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Of what must be a JSON object. Raises MalformedBody, UnsupportedMedia."""
    body = await parse_large_json(raw, headers)
    if not isinstance(body, dict):
        raise MalformedBody("The body must be a JSON object.")
    return body


def parse_json(body: bytes, headers: Mapping[bytes, bytes]) -> Any:
    """Raises MalformedBody with the position, UnsupportedMedia for forms and media."""
    media = headers.get(b"content-type", b"").decode("latin-1").strip().lower()
    if media.startswith("multipart/"):
        raise UnsupportedMedia("This task takes a JSON body, not a form.")
    if not body:
        raise MalformedBody('The body is empty; send JSON such as {"inputs": ...}.')
    try:
        return read_json(body)
    except TooManyError as error:
        raise InputTooLarge(f"The body is too large: {error}.") from None
    except TooDeepError as error:
        raise MalformedBody(f"The body cannot be read: {error}.") from None
    except orjson.JSONDecodeError as error:
        if media.startswith(BINARY_MEDIA):
            kind = media.partition(";")[0][:64]
            raise UnsupportedMedia(f"This task takes a JSON body, not {kind}.") from None
        raise MalformedBody(_what_is_wrong(body, error)) from None


def _what_is_wrong(body: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as not_utf8:
        return f"The body is not UTF-8: {not_utf8.reason} at byte {not_utf8.start}."
    return f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno} (character {error.pos})."
