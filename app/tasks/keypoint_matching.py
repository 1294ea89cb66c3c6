"""keypoint-matching: the same points in two images."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.tasks.base import Example, Parameters, Task
from app.tasks.media import Image
from app.tasks.samples import PNG, PNG_BASE64

Pair = Annotated[list[Image], Field(min_length=2, max_length=2)]


class KeypointMatchingParameters(Parameters):
    threshold: float | None = Field(default=None, ge=0, le=1, description="Answer only matches this sure. Unset: 0.")


class Point(BaseModel):
    """In pixels of its image."""

    x: float
    y: float


class Match(BaseModel):
    keypoint_image_0: Point
    keypoint_image_1: Point
    score: float


def _is_one_pair(inputs: Any, parameters: dict[str, Any]) -> bool:
    """A list of texts is a pair, a list of lists is several."""
    return not isinstance(inputs, list) or not any(isinstance(one, list) for one in inputs)


TASK = Task(
    name="keypoint-matching",
    summary="The same points in two images.",
    modality="image",
    input_type=Pair,
    parameters=KeypointMatchingParameters,
    output_type=list[Match] | list[list[Match]],
    auto_classes=("AutoModelForKeypointMatching",),
    needs=("image_processor",),
    stages="app.runtime.vision.keypoints:KeypointMatchingStages",
    warm_up=([PNG, PNG], {}),
    is_repeatable=True,
    default_model="magic-leap-community/superglue_outdoor",
    example=Example(
        body={"inputs": [PNG_BASE64, PNG_BASE64]},
        answer=[{"keypoint_image_0": {"x": 12, "y": 31}, "keypoint_image_1": {"x": 12, "y": 31}, "score": 0.98}],
    ),
    batching="Pairs share the queue but not a forward: each is computed by itself.",
    is_single=_is_one_pair,
)
