"""object-detection: the things in an image, each in a box."""

from __future__ import annotations

from pydantic import Field

from app.tasks.base import Example, Parameters, Task
from app.tasks.boxes import Detection
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64


class ObjectDetectionParameters(Parameters):
    threshold: float | None = Field(default=None, ge=0, le=1, description="Answer only boxes this sure. Unset: 0.5.")


TASK = Task(
    name="object-detection",
    summary="The things in an image, each with a label, a score and a box.",
    modality="image",
    input_type=Image,
    parameters=ObjectDetectionParameters,
    output_type=list[Detection] | list[list[Detection]],
    auto_classes=("AutoModelForObjectDetection",),
    needs=("image_processor",),
    stages="app.runtime.vision.detection:ObjectDetectionStages",
    warm_up=(PNG, {}),
    is_repeatable=True,
    default_model="PekingU/rtdetr_r50vd",
    example=Example(
        body={"inputs": PNG_BASE64, "parameters": {"threshold": 0.0}},
        answer=[
            {"label": "sports ball", "score": 0.97, "box": {"xmin": 12, "ymin": 12, "xmax": 52, "ymax": 52}},
        ],
    ),
    batching="Images that the model's processor makes equally large; padding would change the answers of some models.",
    media_field="inputs",
    normalize=single_media("image", parameters=("threshold",)),
)
