"""Sounds for tests, and the comparison of answers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

RATE = 16_000


def sound(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """A rising tone with bursts of noise; another for each seed."""
    random = np.random.RandomState(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * (200 + 300 * seed) * times * (1 + times / 7))
    noise = 0.1 * random.randn(len(times)) * (np.sin(times * 9) > 0)
    return (tone + noise).astype(np.float32)


def wav(samples: NDArray[np.float32], rate: int = RATE) -> bytes:
    """A file that holds the samples exactly."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def assert_same(given: Any, expected: Any, tolerance: float) -> None:
    """Equal but for scores, which are as near as the tolerance."""
    if isinstance(expected, dict):
        assert given.keys() == expected.keys()
        for name in expected:
            assert_same(given[name], expected[name], tolerance)
    elif isinstance(expected, list | tuple):
        assert len(given) == len(expected)
        for one, other in zip(given, expected, strict=True):
            assert_same(one, other, tolerance)
    elif isinstance(expected, float):
        assert given == pytest.approx(expected, abs=tolerance)
    else:
        assert given == expected
