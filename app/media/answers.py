"""Answers that are media, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Picture:
    """image: a PIL image."""

    image: Any


@dataclass(frozen=True, slots=True)
class Sound:
    """samples: float32 [n] or [channels, n], -1 to 1."""

    samples: NDArray[np.float32]
    sampling_rate: int
