"""What detectors answer."""

from __future__ import annotations

from pydantic import BaseModel


class Box(BaseModel):
    """In pixels of the image."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class Detection(BaseModel):
    label: str
    score: float
    box: Box
