"""Answers that are media, and how they are written."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BackendFailed, InvalidInput
from app.media.audio import WRITTEN as SOUND_TYPES
from app.media.audio import encode_audio
from app.media.images import WRITTEN as PICTURE_TYPES
from app.media.images import encode_image

ARRAY_TYPE = "application/x-npy"


@dataclass(frozen=True, slots=True)
class Picture:
    """image: a PIL image."""

    image: Any


@dataclass(frozen=True, slots=True)
class Sound:
    """samples: float32 [n] or [channels, n], -1 to 1."""

    samples: NDArray[np.float32]
    sampling_rate: int


def to_builtin(value: Picture | Sound) -> str:
    """base64 of a PNG or WAV file: the form inside JSON."""
    media_type = PICTURE_TYPES[0] if isinstance(value, Picture) else SOUND_TYPES[0]
    return base64.b64encode(encode(value, media_type)).decode("ascii")


def encode(answer: Any, media_type: str) -> bytes:
    """A whole answer as a file. Raises InvalidInput where it has no such form, BackendFailed for NaN and infinity."""
    if media_type not in (types := _types_of(answer)):
        also = f" and {', '.join(types)}" if types else ""
        raise InvalidInput(f"Accept: this answer has no form {media_type}; there is application/json{also}.")
    if isinstance(answer, Picture):
        return encode_image(answer.image, media_type)
    if isinstance(answer, Sound):
        return encode_audio(answer.samples, answer.sampling_rate, media_type)
    return _encode_array(answer)


def _types_of(answer: Any) -> tuple[str, ...]:
    if isinstance(answer, Picture):
        return PICTURE_TYPES
    if isinstance(answer, Sound):
        return SOUND_TYPES
    return (ARRAY_TYPE,) if isinstance(answer, np.ndarray) else ()


def _encode_array(array: NDArray[Any]) -> bytes:
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise BackendFailed("The model computed a number that is not finite (NaN or infinity).")
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
