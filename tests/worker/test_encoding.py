"""Answers as JSON: numpy as it comes, and never a number that is none."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import orjson
import PIL.Image
import pytest

from app.errors import BackendFailed
from app.media.answers import Picture, Sound
from app.media.sniff import sniff
from app.worker.encoding import encode, to_json


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{"label": "POSITIVE", "score": 0.5}], [{"label": "POSITIVE", "score": 0.5}]),
        (np.array([[1.5, 2.5]], dtype=np.float32), [[1.5, 2.5]]),
        (np.array([1.5], dtype=np.float16), [1.5]),
        (np.arange(6.0).reshape(2, 3).T, [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]),
        ({"score": np.float32(0.5), "start": np.int64(3)}, {"score": 0.5, "start": 3}),
        ({"answer": None, "text": "null"}, {"answer": None, "text": "null"}),
        ((1, "a"), [1, "a"]),
    ],
)
def test_answers_become_json(value: Any, expected: Any) -> None:
    """Python's and numpy's types, contiguous or not, `None` and the word null included."""
    assert orjson.loads(to_json(value)) == expected


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [{"score": math.inf}],
        np.array([1.0, -math.inf], dtype=np.float32),
        {"scores": (1.0, np.float32("nan"))},
        np.full((3, 2), math.nan).T,
    ],
)
def test_what_is_not_finite_is_refused(value: Any) -> None:
    """orjson would write null."""
    with pytest.raises(BackendFailed):
        to_json(value)


def test_a_foreign_type_is_a_bug() -> None:
    """It raises, and the job's client reads a generic error."""
    with pytest.raises(TypeError):
        to_json([object()])


def test_media_inside_json_are_files_in_base64() -> None:
    """Alone in a field of its kind, inside a list as they are."""
    picture = Picture(PIL.Image.new("RGB", (2, 1)))
    (alone,) = orjson.loads(encode(picture, "application/json")).values()
    (inside,) = orjson.loads(encode([{"mask": picture}], "application/json"))
    assert alone == inside["mask"]
    assert sniff(base64.b64decode(alone)) == "image/png"
    sound = orjson.loads(encode(Sound(np.zeros(80, np.float32), 8000), "application/json"))
    assert sound["sampling_rate"] == 8000
    assert sniff(base64.b64decode(sound["audio"])) == "audio/wav"
