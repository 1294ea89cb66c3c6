"""Where long sounds are cut."""

from __future__ import annotations

import numpy as np
import pytest

from app.errors import InputTooLarge
from app.runtime.audio.windows import LONGEST_S, MAX_WINDOWS, SEARCHED_S, cut
from tests.runtime.audio.sounds import RATE, sound


def test_what_is_heard_at_once_is_not_cut() -> None:
    """30 s to the sample."""
    (only,) = cut(np.ones(30 * RATE, np.float32), RATE, param="file")
    assert len(only.samples) == 30 * RATE and only.begin == 0


def test_the_cut_is_where_it_is_quiet() -> None:
    """In the middle of a short silence, wherever it lies in the end of the window."""
    samples = np.ones(40 * RATE, np.float32)
    samples[25 * RATE : 25 * RATE + RATE // 5] = 0
    first, second = cut(samples, RATE, param="file")
    assert abs(second.begin / RATE - 25.1) < 0.06
    assert len(first.samples) == second.begin


def test_windows_are_the_whole_sound() -> None:
    """Side by side, none longer than the longest, none shorter than what is searched leaves of it."""
    samples = sound(200, 1)
    windows = cut(samples, RATE, param="file")
    assert np.array_equal(np.concatenate([one.samples for one in windows]), samples)
    assert all(LONGEST_S - SEARCHED_S <= len(one.samples) / RATE <= LONGEST_S for one in windows[:-1])


def test_silence_makes_the_longest_windows() -> None:
    """Of equally quiet places the last."""
    first, *_ = cut(np.zeros(60 * RATE, np.float32), RATE, param="file")
    assert len(first.samples) / RATE > LONGEST_S - 0.1


def test_too_many_windows_are_refused() -> None:
    """By the name of the field."""
    with pytest.raises(InputTooLarge, match=f"{MAX_WINDOWS} windows") as caught:
        cut(np.zeros(100 * MAX_WINDOWS * 30, np.float32), 100, param="file")
    assert caught.value.param == "file"
