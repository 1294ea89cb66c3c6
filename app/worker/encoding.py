"""Answers as JSON or as files, made where the answer is made."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson

from app.errors import BackendFailed
from app.media import answers
from app.media.answers import Picture, Sound

JSON = "application/json"
# orjson would write the fields of a `Picture`, a dataclass, in the place of its file.
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS


def encode(answer: Any, media_type: str) -> bytes:
    """One input's answer. Raises InvalidInput where it has no such form, BackendFailed for NaN and infinity."""
    if media_type != JSON:
        return answers.encode(answer, media_type)
    if isinstance(answer, Picture):
        return to_json({"image": answer})
    if isinstance(answer, Sound):
        return to_json({"audio": answer, "sampling_rate": answer.sampling_rate})
    return to_json(answer)


def to_json(value: Any) -> bytes:
    """Raises BackendFailed for NaN and infinity, which orjson would write as `null`."""
    encoded = orjson.dumps(value, default=_to_builtin, option=_OPTIONS)
    # A number that is none is written as null: without a null there is nothing to look for.
    if b"null" in encoded and not _is_finite(value):
        raise BackendFailed("the model's answer holds a number that is not finite (NaN or infinity)")
    return encoded


def _to_builtin(value: Any) -> Any:
    """What orjson does not know: media, arrays that are not contiguous or of a rare type, tuples' subclasses."""
    if isinstance(value, Picture | Sound):
        return answers.to_builtin(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"an answer holds a {type(value).__name__}, which has no JSON form. This is a bug.")


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())
    if isinstance(value, dict):
        return all(_is_finite(child) for child in value.values())
    if isinstance(value, list | tuple):
        return all(_is_finite(child) for child in value)
    return True
