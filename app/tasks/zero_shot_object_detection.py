"""zero-shot-object-detection: things of the given names in an image, each in a box."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from app.tasks.base import Example, Parameters, Task
from app.tasks.boxes import Detection
from app.tasks.labels import CandidateLabels, split_labels
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64

MAX_LABELS = 256


class ZeroShotObjectDetectionParameters(Parameters):
    candidate_labels: CandidateLabels = Field(
        max_length=MAX_LABELS, description="What to look for: a list, or one string with commas."
    )
    threshold: float | None = Field(default=None, ge=0, le=1, description="Answer only boxes this sure. Unset: 0.1.")
    top_k: int | None = Field(default=None, ge=1, description="Answer only the best so many boxes. Unset: all.")

    _split = field_validator("candidate_labels", mode="before")(split_labels)


def _count_labels(one_input: Any, parameters: dict[str, Any]) -> int:
    return len(parameters["candidate_labels"])


TASK = Task(
    name="zero-shot-object-detection",
    summary="Things of the given names in an image, each with a score and a box.",
    modality="multimodal",
    input_type=Image,
    parameters=ZeroShotObjectDetectionParameters,
    output_type=list[Detection] | list[list[Detection]],
    auto_classes=("AutoModelForZeroShotObjectDetection",),
    needs=("image_processor", "tokenizer"),
    stages="app.runtime.vision.detection:ZeroShotObjectDetectionStages",
    warm_up=(PNG, {"candidate_labels": ["a"]}),
    is_repeatable=True,
    default_model="google/owlv2-base-patch16-ensemble",
    example=Example(
        body={"inputs": PNG_BASE64, "parameters": {"candidate_labels": ["a red ball", "a dog"], "threshold": 0.0}},
        answer=[{"label": "a red ball", "score": 0.61, "box": {"xmin": 12, "ymin": 12, "xmax": 52, "ymax": 52}}],
    ),
    batching="Every pair of an image and a label, of any requests, where images and labels are equally long.",
    media_field="inputs",
    count=_count_labels,
    normalize=single_media("image", parameters=("candidate_labels", "threshold", "top_k")),
)
