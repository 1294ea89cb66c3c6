"""The libraries that decode, loaded at their first use: not every process needs them or has them all."""

from __future__ import annotations

import importlib
from typing import Any

from app.errors import UnsupportedMedia

_INSTALL = {"soundfile": '"pipeserve[audio]"', "soxr": '"pipeserve[audio]"', "av": '"pipeserve[video]"'}


def load_library(name: str, *, what: str, param: str | None = None) -> Any:
    """The module. what: it is needed for, such as "MP4 videos". Raises UnsupportedMedia, naming what to install."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # OSError: soundfile without libsndfile
        place = f"{param}: " if param else ""
        raise UnsupportedMedia(
            f"{place}{what} need {name}, which is missing here: pip install {_INSTALL[name]}", param=param
        ) from None
