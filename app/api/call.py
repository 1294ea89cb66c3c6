"""What a request says beside its body: query and headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from app.durations import parse_duration
from app.errors import InvalidInput, MalformedBody
from app.fairness import PRIORITIES

QUERY_NAMES = ("model", "keep_alive", "wait")
"""Every other name is refused, so that a typo is not an answer from another model."""

PRIORITY = b"x-priority"
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """None: not said. keep_alive_s: -1 for never. deadline_s: from now. priority: of `PRIORITIES`."""

    model: str | None = None
    keep_alive_s: float | None = None
    deadline_s: float | None = None
    wait_for_load: bool | None = None
    priority: int | None = None


def read_call(query_string: bytes, headers: Mapping[bytes, bytes]) -> Call:
    """Raises InvalidInput naming the parameter or header."""
    query = read_query(query_string, QUERY_NAMES) if query_string else {}
    timeout = headers.get(b"x-request-timeout")
    return Call(
        model=query.get("model"),
        keep_alive_s=read_keep_alive(query.get("keep_alive")),
        deadline_s=None if timeout is None else _read_deadline(timeout.decode("latin-1")),
        wait_for_load=_read_wait(query.get("wait"), headers),
        priority=_read_priority(headers[PRIORITY]) if PRIORITY in headers else None,
    )


def read_query(query_string: bytes, names: tuple[str, ...]) -> dict[str, str]:
    """Raises InvalidInput for a name that is not one of these, or that stands twice."""
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError:
        raise MalformedBody("The query of the URL cannot be read.") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name not in names:
            raise InvalidInput(f"{name}: no such query parameter; there are {', '.join(names)}.", param=name)
        if name in query:
            raise InvalidInput(f"{name} stands twice in the query.", param=name)
        query[name] = value
    return query


def task_body(inputs: Any, parameters: Mapping[str, Any], keep_alive: Any) -> dict[str, Any]:
    """A task's body, without what another API's client left unset."""
    body = {"inputs": inputs, "parameters": {name: value for name, value in parameters.items() if value is not None}}
    return body if keep_alive is None else {**body, "keep_alive": keep_alive}


def read_keep_alive(value: Any) -> float | None:
    """From a body or query. Raises InvalidInput."""
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise InvalidInput(f"keep_alive: {error} 0 unloads after the answer, -1 never.", param="keep_alive") from None


def _read_deadline(value: str) -> float:
    try:
        seconds = parse_duration(value)
        if seconds <= 0:
            raise ValueError(f"{value!r} leaves no time to answer.")
    except ValueError as error:
        raise InvalidInput(f"X-Request-Timeout: {error}", param="X-Request-Timeout") from None
    return seconds


def _read_priority(value: bytes) -> int:
    """One that the caller may not ask for is refused where the job is made."""
    name = value.decode("latin-1").strip().lower()
    if name not in PRIORITIES:
        raise InvalidInput(f"X-Priority must be {', '.join(PRIORITIES)}.", param="X-Priority")
    return PRIORITIES[name]


def _read_wait(value: str | None, headers: Mapping[bytes, bytes]) -> bool | None:
    """`?wait=`, else whether `Prefer: respond-async` asks not to."""
    if value is not None:
        if value.lower() not in _TRUTH:
            raise InvalidInput("wait must be true or false.", param="wait")
        return _TRUTH[value.lower()]
    preferences = [one.strip().lower() for one in headers.get(b"prefer", b"").split(b",")]
    return False if b"respond-async" in preferences else None
