"""Durations as people write them: in models.yaml, in request bodies, in headers."""

from __future__ import annotations

import math
import re
from typing import Any

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|)", re.ASCII)


def parse_duration(value: Any) -> float:
    """Seconds: a number of them, or text such as `20`, `500ms`, `20s`, `5m`, `1h`. The only negative one is -1.

    What -1 means (never) is the caller's business. Raises ValueError with a sentence that says what was given.
    """
    seconds = _seconds(value)
    if seconds is None or not math.isfinite(seconds) or (seconds < 0 and seconds != -1):
        raise ValueError(f"{_shown(value)} is not a duration; write seconds, or 500ms, 20s, 5m, 1h.")
    return seconds


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _float(value)
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 32 else None
    return None if found is None else float(found[1]) * _UNITS_S[found[2]]


def _float(number: int | float) -> float:
    """An integer may be too large for a float."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."
