"""image-classification: labels and scores of an image."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from app.tasks.base import Example, Parameters, Task
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64


class ImageClassificationParameters(Parameters):
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        default=None, description="What turns the model's outputs into scores. Unset: as the model's config says."
    )
    top_k: int | None = Field(default=None, ge=1, description="Answer only the best so many labels. Unset: 5.")


class Label(BaseModel):
    label: str
    score: float


TASK = Task(
    name="image-classification",
    summary="Labels of an image, each with a score.",
    modality="image",
    input_type=Image,
    parameters=ImageClassificationParameters,
    output_type=list[Label] | list[list[Label]],
    auto_classes=("AutoModelForImageClassification",),
    needs=("image_processor",),
    stages="app.runtime.vision.classification:ImageClassificationStages",
    warm_up=(PNG, {}),
    is_repeatable=True,
    default_model="google/vit-base-patch16-224",
    default_revision="3f49326",
    example=Example(
        body={"inputs": PNG_BASE64, "parameters": {"top_k": 2}},
        answer=[{"label": "traffic light", "score": 0.41}, {"label": "ping-pong ball", "score": 0.12}],
    ),
    batching="Images of any requests that the model's processor makes equally large, which most do with all.",
    media_field="inputs",
    normalize=single_media("image", parameters=("top_k", "function_to_apply")),
)
