"""zero-shot-classification: which of the given labels fit a text."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, field_validator

from app.tasks.base import Example, Task, TextParameters
from app.tasks.labels import CandidateLabels, check_template, split_labels
from app.tasks.text import Text


class ZeroShotClassificationParameters(TextParameters):
    candidate_labels: CandidateLabels = Field(
        description="The labels to choose among: a list, or one string with commas."
    )
    hypothesis_template: Text | None = Field(
        default=None, description='The sentence a label is put into, with one {}. Unset: "This example is {}."'
    )
    multi_label: bool | None = Field(default=None, description="Score each label by itself. Unset: scores sum to 1.")

    _split = field_validator("candidate_labels", mode="before")(split_labels)
    _check = field_validator("hypothesis_template")(check_template)


class Label(BaseModel):
    label: str
    score: float


def _count_labels(one_input: Any, parameters: dict[str, Any]) -> int:
    return len(parameters["candidate_labels"])


TASK = Task(
    name="zero-shot-classification",
    summary="How well each of the given labels fits a text, by a model of natural language inference.",
    input_type=Text,
    parameters=ZeroShotClassificationParameters,
    output_type=list[Label] | list[list[Label]],
    auto_classes=("AutoModelForSequenceClassification",),
    stages="app.runtime.pipelines:ZeroShotClassificationStages",
    warm_up=("a", {"candidate_labels": ["b", "c"]}),
    is_repeatable=True,
    default_model="facebook/bart-large-mnli",
    default_revision="d7645e1",
    example=Example(
        body={
            "inputs": "The match ended two goals to one.",
            "parameters": {"candidate_labels": ["sport", "cooking", "politics"]},
        },
        answer=[
            {"label": "sport", "score": 0.98},
            {"label": "politics", "score": 0.01},
            {"label": "cooking", "score": 0.01},
        ],
    ),
    batching="Every pair of a text and a label, of any requests.",
    count=_count_labels,
)
