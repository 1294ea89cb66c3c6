"""image-to-image: a larger, sharper image (super-resolution)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, field_validator

from app.tasks.base import Example, Inputs, Parameters, Task
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64

MAX_SIDE = 8192


class Size(Inputs):
    width: int = Field(ge=1, le=MAX_SIDE)
    height: int = Field(ge=1, le=MAX_SIDE)


class ImageToImageParameters(Parameters):
    target_size: Size | None = Field(default=None, description="Scale the result to so many pixels.")
    prompt: str | None = Field(default=None, description="Not for these models: they follow no prompt.")
    negative_prompt: str | None = Field(default=None, description="Not for these models.")
    num_inference_steps: int | None = Field(default=None, description="Not for these models.")
    guidance_scale: float | None = Field(default=None, description="Not for these models.")

    @field_validator("prompt", "negative_prompt", "num_inference_steps", "guidance_scale")
    @classmethod
    def _refuse_what_is_of_diffusion(cls, value: Any) -> None:
        if value is not None:
            raise ValueError("models of super-resolution take no prompt and no steps; those are for diffusion models")


class ImageAnswer(BaseModel):
    image: str = Field(description="A PNG in base64.")


TASK = Task(
    name="image-to-image",
    summary="A larger, sharper image, by a model of super-resolution.",
    modality="image",
    input_type=Image,
    parameters=ImageToImageParameters,
    output_type=ImageAnswer | list[ImageAnswer],
    auto_classes=("AutoModelForImageToImage",),
    needs=("image_processor",),
    stages="app.runtime.vision.image_to_image:ImageToImageStages",
    warm_up=(PNG, {}),
    is_repeatable=True,
    default_model="caidas/swin2SR-classical-sr-x2-64",
    default_revision="cee1c92",
    example=Example(body={"inputs": PNG_BASE64}, answer={"image": "iVBORw0KGgo..."}),
    batching="Images of equal size.",
    media_field="inputs",
    answers=("image/png", "image/jpeg", "image/webp", "application/json"),
    normalize=single_media("image", parameters=tuple(ImageToImageParameters.model_fields)),
)
