"""Answers that are files, and how they stand in JSON."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import BackendFailed, InvalidInput
from app.media.answers import Picture, Sound, encode, to_builtin
from app.media.audio import decode_audio
from app.media.images import decode_image
from app.media.limits import MediaLimits
from app.media.sniff import sniff
from tests.media.files import picture, tone

PICTURE = Picture(picture())
SOUND = Sound(tone(), 16_000)
LIMITS = MediaLimits()


def test_picture_in_json_is_base64_of_png() -> None:
    """Without any loss."""
    image = decode_image(base64.b64decode(to_builtin(PICTURE)), LIMITS, param="inputs")
    assert np.array_equal(np.asarray(image), np.asarray(picture()))


def test_sound_in_json_is_base64_of_wav() -> None:
    """Of 16 bits."""
    samples = decode_audio(base64.b64decode(to_builtin(SOUND)), 16_000, LIMITS, param="inputs")
    assert np.abs(samples - tone()).max() < 1 / 32_000


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/webp"])
def test_picture_is_written_as_asked(media_type: str) -> None:
    """The file's bytes tell its type."""
    assert sniff(encode(PICTURE, media_type)) == media_type


@pytest.mark.parametrize("media_type", ["audio/wav", "audio/flac", "audio/ogg", "audio/mpeg"])
def test_sound_is_written_as_asked(media_type: str) -> None:
    """The file's bytes tell its type."""
    assert sniff(encode(SOUND, media_type)) == media_type


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8, np.bool_])
def test_array_is_written_as_numpy_writes_it(dtype: type) -> None:
    """Shape, dtype and values come back, without pickle."""
    array: NDArray[Any] = np.arange(12).reshape(3, 4).astype(dtype)
    read = np.load(io.BytesIO(encode(array, "application/x-npy")), allow_pickle=False)
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("answer", "media_type", "says"),
    [
        (PICTURE, "audio/wav", "image/png, image/jpeg, image/webp"),
        (SOUND, "image/png", "audio/wav, audio/flac, audio/ogg, audio/mpeg"),
        (np.zeros(1), "image/png", "application/x-npy"),
        ([{"label": "a"}], "image/png", "there is application/json."),
    ],
)
def test_forms_that_an_answer_has_are_named(answer: object, media_type: str, says: str) -> None:
    """When another is asked for."""
    with pytest.raises(InvalidInput, match="Accept") as caught:
        encode(answer, media_type)
    assert says in caught.value.message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_errors(value: float) -> None:
    """Of the model, in sounds as in arrays."""
    with pytest.raises(BackendFailed):
        encode(np.array([value]), "application/x-npy")
    with pytest.raises(BackendFailed):
        encode(Sound(np.array([value], np.float32), 16_000), "audio/wav")


def test_deep_picture_keeps_its_depth_in_png() -> None:
    """Depth maps of 16 bits."""
    deep = Image.fromarray(np.array([[0, 1000, 65535]], np.uint16))
    read = Image.open(io.BytesIO(encode(Picture(deep), "image/png")))
    assert np.asarray(read).tolist() == [[0, 1000, 65535]]
