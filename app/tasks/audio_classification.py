"""audio-classification: labels and scores of a sound."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from app.tasks.base import Example, Parameters, Task
from app.tasks.media import Audio, single_media
from app.tasks.samples import WAV, WAV_BASE64


class AudioClassificationParameters(Parameters):
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        default=None, description="What turns the model's outputs into scores. Unset: as the model's config says."
    )
    top_k: int | None = Field(default=None, ge=1, description="Answer only the best so many labels. Unset: all.")


class Label(BaseModel):
    label: str
    score: float


TASK = Task(
    name="audio-classification",
    summary="Labels of a sound, each with a score.",
    modality="audio",
    input_type=Audio,
    parameters=AudioClassificationParameters,
    output_type=list[Label] | list[list[Label]],
    auto_classes=("AutoModelForAudioClassification",),
    needs=("feature_extractor",),
    stages="app.runtime.audio.classification:AudioClassificationStages",
    warm_up=(WAV, {}),
    is_repeatable=True,
    default_model="superb/wav2vec2-base-superb-ks",
    default_revision="372e048",
    example=Example(
        body={"inputs": WAV_BASE64, "parameters": {"top_k": 2}},
        answer=[{"label": "siren", "score": 0.93}, {"label": "whistle", "score": 0.04}],
    ),
    batching="Sounds of equal length, or of any length where the model was trained with attention masks.",
    media_field="inputs",
    normalize=single_media("audio", parameters=("top_k", "function_to_apply")),
)
