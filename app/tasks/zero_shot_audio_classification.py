"""zero-shot-audio-classification: which of the given labels fit a sound."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, field_validator

from app.tasks.base import Example, Parameters, Task
from app.tasks.labels import CandidateLabels, check_template, split_labels
from app.tasks.media import Audio, single_media
from app.tasks.samples import WAV, WAV_BASE64
from app.tasks.text import Text


class ZeroShotAudioClassificationParameters(Parameters):
    candidate_labels: CandidateLabels = Field(
        description="The labels to choose among: a list, or one string with commas."
    )
    hypothesis_template: Text | None = Field(
        default=None, description='The sentence a label is put into, with one {}. Unset: "This is a sound of {}."'
    )

    _split = field_validator("candidate_labels", mode="before")(split_labels)
    _check = field_validator("hypothesis_template")(check_template)


class Label(BaseModel):
    label: str
    score: float


def _count_labels(one_input: Any, parameters: dict[str, Any]) -> int:
    return len(parameters["candidate_labels"])


TASK = Task(
    name="zero-shot-audio-classification",
    summary="How well each of the given labels fits a sound.",
    modality="multimodal",
    input_type=Audio,
    parameters=ZeroShotAudioClassificationParameters,
    output_type=list[Label] | list[list[Label]],
    auto_classes=("AutoModel",),
    needs=("tokenizer", "feature_extractor"),
    stages="app.runtime.audio.zero_shot:ZeroShotAudioClassificationStages",
    warm_up=(WAV, {"candidate_labels": ["a", "b"]}),
    is_repeatable=True,
    default_model="laion/clap-htsat-fused",
    default_revision="cca9e28",
    example=Example(
        body={"inputs": WAV_BASE64, "parameters": {"candidate_labels": ["a siren", "a dog"]}},
        answer=[{"label": "a siren", "score": 0.97}, {"label": "a dog", "score": 0.03}],
    ),
    batching="Sounds of any requests, whatever their labels; a label's vector is computed once and kept.",
    media_field="inputs",
    normalize=single_media("audio", parameters=("candidate_labels", "hypothesis_template")),
    count=_count_labels,
)
