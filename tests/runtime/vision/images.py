"""Pictures and films for tests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def pixels(width: int, height: int, seed: int = 0) -> Any:
    """Smooth colours with something in them, another for each seed."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    return Image.fromarray(pixels(width, height, seed))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def film(num_frames: int = 8, size: int = 24, seed: int = 0) -> bytes:
    """A GIF in which the colours wander."""
    frames = [picture(size, size, seed * 100 + number).quantize(64) for number in range(num_frames)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()
