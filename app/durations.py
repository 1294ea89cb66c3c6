"""Durations and sizes as people write them: in models.yaml, in flags, in request bodies, in headers."""

from __future__ import annotations

import math
import re
from typing import Any

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", re.ASCII)
DURATION_PATTERN = r"^\s*(-1\s*s?|[0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d)?)\s*$"
"""For editors, as JSON schemas write patterns: what `parse_duration` takes."""


def parse_duration(value: Any) -> float:
    """Seconds: a number of them, or text such as `20`, `500ms`, `20s`, `5m`, `1h`, `30d`. The only negative one is -1.

    What -1 means (never) is the caller's business. Raises ValueError with a sentence that says what was given.
    """
    seconds = _seconds(value)
    if seconds is None or not math.isfinite(seconds) or (seconds < 0 and seconds != -1):
        raise ValueError(f"{_shown(value)} is not a duration; write seconds, or 500ms, 20s, 5m, 1h, 30d.")
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


_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B|)", re.ASCII | re.IGNORECASE)
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)
_MAX_SIZE = 2**60
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]?[iI]?[bB])?$"
SIZE_OR_SHARE_PATTERN = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]?[iI]?[bB]|%)?\s*$"
"""For editors, as JSON schemas write patterns: what `parse_size` and `parse_size_or_share` take."""


def parse_size(value: Any) -> int:
    """Bytes: a whole number of them, or text such as `512MiB`, `8GiB`, `1.5 GB`. Raises ValueError with a sentence."""
    size = _size(value)
    if size is None or not 0 < size <= _MAX_SIZE:
        raise ValueError(f"{_shown(value)} is not a size; write bytes, or 512MiB, 8GiB.")
    return size


def parse_size_or_share(value: Any) -> int | float:
    """Bytes (int), or a share above 0 and up to 1 (float) from text such as `80%`. Raises ValueError."""
    found = _SHARE.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 32 else None
    share = None if found is None else float(found[1]) / 100
    if share is not None and 0 < share <= 1:
        return share
    size = _size(value)
    if size is None or not 0 < size <= _MAX_SIZE:
        raise ValueError(f"{_shown(value)} is not a size; write bytes, 512MiB, 8GiB, or a share such as 80%.")
    return size


def _size(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 32 else None
    return None if found is None else int(float(found[1]) * _SIZE_UNITS[found[2].upper()])
