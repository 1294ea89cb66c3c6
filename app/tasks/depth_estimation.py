"""depth-estimation: how far away each pixel of an image is."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.tasks.base import Example, Parameters, Task
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64


class DepthEstimationParameters(Parameters):
    """It has none."""


class Depth(BaseModel):
    predicted_depth: list[list[float]] = Field(description="[height, width], as the model measures it.")
    depth: str = Field(description="The same as a PNG in base64, from black to white.")


TASK = Task(
    name="depth-estimation",
    summary="How far away each pixel of an image is.",
    modality="image",
    input_type=Image,
    parameters=DepthEstimationParameters,
    output_type=Depth | list[Depth],
    auto_classes=("AutoModelForDepthEstimation",),
    needs=("image_processor",),
    stages="app.runtime.vision.depth:DepthEstimationStages",
    warm_up=(PNG, {}),
    is_repeatable=True,
    default_model="Intel/dpt-large",
    default_revision="bc15f29",
    example=Example(
        body={"inputs": PNG_BASE64},
        answer={"predicted_depth": [[10.5, 10.6], [10.4, 10.7]], "depth": "iVBORw0KGgo..."},
    ),
    batching="Images that the model's processor makes equally large.",
    media_field="inputs",
    normalize=single_media("image"),
)
