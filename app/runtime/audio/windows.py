"""Long sounds, cut where it is quiet: each window is heard by itself, and their texts are joined as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.errors import InputTooLarge
from app.media.audio import Samples

UNCUT_S = 30.0
"""What Whisper hears at once, and no more than other models can bear."""
LONGEST_S = 29.0
"""Of a window of a longer sound: the silence after it tells Whisper that the last sentence is over."""
SEARCHED_S = 6.0
"""The end of a window, in which the cut is."""
_QUIET_S = 0.1
_HOP_S = 0.02
MAX_WINDOWS = 512
"""Of one sound: each may hold a megabyte of features while it waits."""


@dataclass(frozen=True, slots=True)
class Cut:
    """begin: the sample at which it begins in the whole."""

    samples: Samples
    begin: int


def cut(samples: Samples, sampling_rate: int, *, param: str) -> list[Cut]:
    """The sound as one window, or several of LONGEST_S at most. Raises InputTooLarge."""
    if len(samples) <= UNCUT_S * sampling_rate:
        return [Cut(samples, 0)]
    longest, cuts, begin = round(LONGEST_S * sampling_rate), [], 0
    while begin < len(samples):
        end = len(samples)
        if end - begin > longest:
            earliest = begin + longest - round(SEARCHED_S * sampling_rate)
            end = earliest + _quietest(samples[earliest : begin + longest], sampling_rate)
        cuts.append(Cut(samples[begin:end], begin))
        begin = end
    if len(cuts) > MAX_WINDOWS:
        seconds = len(samples) / sampling_rate
        raise InputTooLarge(f"{param}: {seconds:.0f} s are more than {MAX_WINDOWS} windows of a sound.", param=param)
    return cuts


def _quietest(samples: Samples, sampling_rate: int) -> int:
    """The middle of the tenth of a second with the least energy, the last of equals."""
    width, hop = round(_QUIET_S * sampling_rate), max(1, round(_HOP_S * sampling_rate))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    begins = np.arange(0, len(samples) - width + 1, hop)
    sums = energy[begins + width] - energy[begins]
    last = len(sums) - 1 - int(np.argmin(sums[::-1]))
    return int(begins[last]) + width // 2
