"""The requests of a batch: a JSON object on each line of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.batches.records import Problem

MAX_PROBLEMS = 100
"""Told of a file; one with more is wrong in some other way."""


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Streamed(msgspec.Struct, frozen=True):
    stream: bool | None = None


class Line(NamedTuple):
    """number: from 1. body: JSON, as it was written."""

    number: int
    custom_id: str
    body: bytes


class _WrongError(Exception):
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def read_lines(path: Path, *, max_bytes: int) -> Iterator[Line]:
    """Of a file that was found to be right. Blocks."""
    for number, raw in _raw_lines(path, max_bytes):
        written = msgspec.json.decode(raw, type=_Written)
        yield Line(number, written.custom_id, bytes(written.body))


def check_lines(path: Path, *, endpoint: str, max_bytes: int) -> tuple[int, list[Problem]]:
    """How many requests there are, and what is wrong with them. max_bytes: of a line. Blocks. Raises OSError."""
    problems: list[Problem] = []
    first_use: dict[str, int] = {}
    for number, raw in _raw_lines(path, max_bytes):
        try:
            custom_id = _check(raw, endpoint, max_bytes)
            if (earlier := first_use.setdefault(custom_id, number)) != number:
                raise _WrongError("duplicate_custom_id", f"custom_id is that of line {earlier}.", "custom_id")
        except _WrongError as error:
            problems.append(Problem(code=error.code, message=str(error), param=error.param, line=number))
            if len(problems) == MAX_PROBLEMS:
                break
    if not first_use and not problems:
        problems.append(Problem(code="empty_file", message="The file has no requests."))
    return len(first_use), problems


def _raw_lines(path: Path, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Blank ones are none. One that is too long comes in part, and ends the file."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(max_bytes + 1):
            number += 1
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if raw.strip():
                yield number, raw
            if len(raw) > max_bytes:
                return


def _check(raw: bytes, endpoint: str, max_bytes: int) -> str:
    """Its custom_id."""
    if len(raw) > max_bytes:
        raise _WrongError("line_too_long", f"A line may have {max_bytes} bytes, as a request's body may.")
    try:
        line = msgspec.json.decode(raw, type=_Written)
    except msgspec.ValidationError as error:
        raise _WrongError("invalid_request", f"The line is not as it must be: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _WrongError("invalid_json_line", f"The line is not JSON: {error}.") from None
    if line.method != "POST":
        raise _WrongError("invalid_method", 'method must be "POST".', "method")
    if line.url != endpoint:
        raise _WrongError("mismatched_url", f"url must be the batch's endpoint, {endpoint}.", "url")
    body = bytes(line.body)
    if not body.startswith(b"{"):
        raise _WrongError("invalid_body", "body must be a JSON object.", "body")
    if b'"stream"' in body and _is_streamed(body):
        raise _WrongError("stream_not_supported", "stream: answers of a batch are whole.", "body.stream")
    return line.custom_id


def _is_streamed(body: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(body, type=_Streamed).stream)
    except msgspec.ValidationError:
        return False  # it is wrong in some other way, which its answer will say
