"""JSON that clients wrote, and JSON that stands in a line of a stream."""

from __future__ import annotations

import re
from typing import Any

import orjson

MAX_DEPTH = 128
"""Arrays and objects within each other. orjson reads 1024 levels but writes 254 again; msgpack, pydantic and Python's
own functions give up elsewhere. Below this, what was read can be handled by all of them."""
MAX_CONTAINERS = 250_000
"""Arrays and objects. Each costs a hundred bytes and more and, what is worse, the time of Python's garbage collector:
32 MiB of `[],` would hold up everybody for seconds."""
MAX_KEYS = 250_000
"""By their colons. A key costs as much as an array, and a field that nobody knows is told in an error."""
MAX_VALUES = 1_000_000
"""By the commas between them. orjson makes all values in one go, during which nobody else's request goes on."""

_STRING_OR_MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,:]', re.DOTALL)  # of what is not JSON yet
_COMMA, _COLON, _BRACKETS = ord(","), ord(":"), frozenset(b"[{")
_CONTAINERS = frozenset((list, dict))

# What `str.splitlines` and with it some clients take for a line's end; JSON has another way to write them.
_LINE_ENDS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


class TooDeepError(ValueError):
    """JSON nested deeper than MAX_DEPTH."""


class TooManyError(ValueError):
    """JSON of more than MAX_CONTAINERS, MAX_KEYS or MAX_VALUES."""


def read_json(text: bytes | str) -> Any:
    """Raises ValueError: orjson.JSONDecodeError, TooDeepError, TooManyError."""
    raw = text.encode() if isinstance(text, str) else text
    num_brackets = raw.count(b"[") + raw.count(b"{")  # at least as many as there are containers
    if num_brackets > MAX_CONTAINERS or raw.count(b":") > MAX_KEYS or raw.count(b",") >= MAX_VALUES:
        _require_few(raw)
    value = orjson.loads(raw)
    if num_brackets > MAX_DEPTH:
        _require_shallow(value)
    return value


def _require_few(raw: bytes) -> None:
    """Brackets, colons and commas within strings, as of source code, are none. Raises TooManyError."""
    num_containers = num_keys = num_commas = 0
    for found in _STRING_OR_MARK.finditer(raw):
        mark = raw[found.start()]
        num_containers += mark in _BRACKETS
        num_keys += mark == _COLON
        num_commas += mark == _COMMA
        if num_containers > MAX_CONTAINERS:
            raise TooManyError(f"it holds more than {MAX_CONTAINERS:,} arrays and objects")
        if num_keys > MAX_KEYS:
            raise TooManyError(f"it holds more than {MAX_KEYS:,} keys")
        if num_commas >= MAX_VALUES:
            raise TooManyError(f"it holds more than {MAX_VALUES:,} values")


def _require_shallow(value: Any) -> None:
    """Level by level: recursion would end before the limit. Raises TooDeepError."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(MAX_DEPTH):
        members = (one.values() if isinstance(one, dict) else one for one in level)
        level = [child for of_one in members for child in of_one if type(child) in _CONTAINERS]
        if not level:
            return
    raise TooDeepError(f"arrays and objects are nested more than {MAX_DEPTH} deep")


def line_of(value: Any) -> bytes:
    """One line, whatever a client takes for a line's end."""
    line = orjson.dumps(value)
    for character, escape in _LINE_ENDS:
        line = line.replace(character, escape)
    return line
