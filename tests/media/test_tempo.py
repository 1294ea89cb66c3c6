"""Sounds at other speeds."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from app.errors import UnsupportedMedia
from app.media.tempo import require_stretching, stretch
from tests.media.files import tone

RATE = 16_000


@pytest.mark.parametrize("speed", [0.25, 0.4, 0.9, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("seconds", [0.03, 2.0])
def test_length_changes_and_pitch_does_not(speed: float, seconds: float) -> None:
    """To the sample; a quarter of the speed, and four times, too."""
    samples = tone(seconds, RATE)
    given = stretch(samples, RATE, speed)
    assert given.dtype == np.float32 and given.shape == (round(len(samples) / speed),)
    if seconds > 1:
        peak = np.argmax(np.abs(np.fft.rfft(given))) / (len(given) / RATE)
        assert peak == pytest.approx(440, abs=5)
        assert 0.5 < np.std(given) / np.std(samples) < 1.5


def test_channels_stay_apart() -> None:
    """Two of them; more are refused."""
    samples = np.stack([tone(1, RATE), 0 * tone(1, RATE)])
    left, right = stretch(samples, RATE, 2)
    assert np.abs(left).max() > 0.3 and np.abs(right).max() < 1e-6
    with pytest.raises(UnsupportedMedia, match="this sound has 3"):
        stretch(np.zeros((3, RATE), np.float32), RATE, 2)


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is spoken."""
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedMedia, match=r"pipeserve\[video\]") as caught:
        require_stretching(param="speed")
    assert caught.value.param == "speed"
