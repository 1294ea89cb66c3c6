"""NaN and infinity are errors of the model, never answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import BackendFailed


def require_finite(numbers: torch.Tensor | NDArray[Any]) -> None:
    """Raises BackendFailed."""
    is_finite = torch.isfinite(numbers).all() if isinstance(numbers, torch.Tensor) else np.isfinite(numbers).all()
    if not bool(is_finite):
        raise BackendFailed("The model computed a number that is not finite (NaN or infinity).")
