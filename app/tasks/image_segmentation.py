"""image-segmentation: the parts of an image, each as a mask."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from app.tasks.base import Example, Parameters, Task
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64


class ImageSegmentationParameters(Parameters):
    subtask: Literal["instance", "panoptic", "semantic"] | None = Field(
        default=None, description="What is told apart. Unset: panoptic, instance or semantic, the first the model does."
    )
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="Answer only segments this sure (not semantic ones). Unset: 0.9."
    )
    mask_threshold: float | None = Field(
        default=None, ge=0, le=1, description="How sure of a pixel that is part of a segment. Unset: 0.5."
    )
    overlap_mask_area_threshold: float | None = Field(
        default=None, ge=0, le=1, description="Join or leave out pieces smaller than this part of a mask. Unset: 0.5."
    )


class Segment(BaseModel):
    """mask: a PNG in base64, white where the segment is. score: missing for semantic segments."""

    label: str
    mask: str
    score: float | None = None


TASK = Task(
    name="image-segmentation",
    summary="The parts of an image, each as a label with a mask.",
    modality="image",
    input_type=Image,
    parameters=ImageSegmentationParameters,
    output_type=list[Segment] | list[list[Segment]],
    auto_classes=(
        "AutoModelForSemanticSegmentation",
        "AutoModelForImageSegmentation",
        "AutoModelForUniversalSegmentation",
    ),
    needs=("image_processor", "tokenizer?"),
    stages="app.runtime.vision.segmentation:ImageSegmentationStages",
    warm_up=(PNG, {}),
    is_repeatable=True,
    default_model="nvidia/segformer-b0-finetuned-ade-512-512",
    default_revision="489d5cd",
    example=Example(
        body={"inputs": PNG_BASE64, "parameters": {"threshold": 0.0}},
        answer=[{"label": "ball", "mask": "iVBORw0KGgo..."}, {"label": "sky", "mask": "iVBORw0KGgo..."}],
    ),
    batching="Images that the model's processor makes equally large.",
    media_field="inputs",
    normalize=single_media("image", parameters=tuple(ImageSegmentationParameters.model_fields)),
)
