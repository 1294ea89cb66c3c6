"""video-classification: labels and scores of a video."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from app.tasks.base import Example, Parameters, Task
from app.tasks.media import Video, single_media
from app.tasks.samples import GIF, GIF_BASE64


class VideoClassificationParameters(Parameters):
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        default=None, description="What turns the model's outputs into scores. Unset: as the model's config says."
    )
    top_k: int | None = Field(default=None, ge=1, description="Answer only the best so many labels. Unset: 5.")
    num_frames: int | None = Field(default=None, ge=1, description="Frames to look at. Unset: as the model wants.")
    frame_sampling_rate: int | None = Field(
        default=None, ge=1, le=1000, description="Look at every so many-th frame. Unset: 1, so at the first ones."
    )


class Label(BaseModel):
    label: str
    score: float


TASK = Task(
    name="video-classification",
    summary="Labels of a video, each with a score.",
    modality="video",
    input_type=Video,
    parameters=VideoClassificationParameters,
    output_type=list[Label] | list[list[Label]],
    auto_classes=("AutoModelForVideoClassification",),
    needs=("image_processor?", "video_processor?"),
    stages="app.runtime.vision.video:VideoClassificationStages",
    warm_up=(GIF, {}),
    is_repeatable=True,
    default_model="MCG-NJU/videomae-base-finetuned-kinetics",
    default_revision="488eb9a",
    example=Example(
        body={"inputs": GIF_BASE64, "parameters": {"top_k": 2}},
        answer=[{"label": "juggling balls", "score": 0.37}, {"label": "bowling", "score": 0.11}],
    ),
    batching="Videos of any requests of which equally many frames are looked at.",
    media_field="inputs",
    normalize=single_media("video", parameters=tuple(VideoClassificationParameters.model_fields)),
)
