"""image-feature-extraction: vectors of an image."""

from __future__ import annotations

from pydantic import Field

from app.tasks.base import Example, Parameters, Task
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64


class ImageFeatureExtractionParameters(Parameters):
    pool: bool | None = Field(
        default=None,
        description="One vector for the image instead of one for each patch. Models that have a space for texts as well"
        " (CLIP) always answer one. Unset: false.",
    )


Vector = list[float]

TASK = Task(
    name="image-feature-extraction",
    summary="Vectors of an image: one for each patch, or one for all of it.",
    modality="image",
    input_type=Image,
    parameters=ImageFeatureExtractionParameters,
    output_type=Vector | list[Vector] | list[list[Vector]],
    auto_classes=("AutoModel",),
    needs=("image_processor",),
    stages="app.runtime.vision.features:ImageFeatureStages",
    warm_up=(PNG, {}),
    is_repeatable=True,
    default_model="google/vit-base-patch16-224",
    default_revision="3f49326",
    example=Example(body={"inputs": PNG_BASE64}, answer=[[0.07, -0.01, 0.04]]),
    batching="Images of any requests that the model's processor makes equally large, which most do with all.",
    media_field="inputs",
    answers=("application/json", "application/x-npy"),
    normalize=single_media("image", parameters=("pool",)),
)
