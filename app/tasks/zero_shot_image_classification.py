"""zero-shot-image-classification: how well each of the given labels fits an image."""

from __future__ import annotations

from pydantic import BaseModel, Field, field_validator

from app.tasks.base import Example, Parameters, Task
from app.tasks.labels import CandidateLabels, check_template, split_labels
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64
from app.tasks.text import Text


class ZeroShotImageClassificationParameters(Parameters):
    candidate_labels: CandidateLabels = Field(
        description="The labels to choose among: a list, or one string with commas."
    )
    hypothesis_template: Text | None = Field(
        default=None, description='The sentence a label is put into, with one {}. Unset: "This is a photo of {}."'
    )

    _split = field_validator("candidate_labels", mode="before")(split_labels)
    _check = field_validator("hypothesis_template")(check_template)


class Label(BaseModel):
    label: str
    score: float


TASK = Task(
    name="zero-shot-image-classification",
    summary="How well each of the given labels fits an image.",
    modality="multimodal",
    input_type=Image,
    parameters=ZeroShotImageClassificationParameters,
    output_type=list[Label] | list[list[Label]],
    auto_classes=("AutoModelForZeroShotImageClassification",),
    needs=("image_processor", "tokenizer"),
    stages="app.runtime.vision.zero_shot:ZeroShotImageClassificationStages",
    warm_up=(PNG, {"candidate_labels": ["a"]}),
    implies=("image-feature-extraction", "feature-extraction"),
    is_repeatable=True,
    default_model="openai/clip-vit-base-patch32",
    default_revision="3d74acf",
    example=Example(
        body={"inputs": PNG_BASE64, "parameters": {"candidate_labels": ["a red ball", "a dog", "a city"]}},
        answer=[
            {"label": "a red ball", "score": 0.97},
            {"label": "a dog", "score": 0.02},
            {"label": "a city", "score": 0.01},
        ],
    ),
    batching="Images of any requests, whatever their labels; each label's vector is computed once and kept.",
    media_field="inputs",
    normalize=single_media("image", parameters=("candidate_labels", "hypothesis_template")),
)
