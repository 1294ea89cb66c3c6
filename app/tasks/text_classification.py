"""text-classification: labels and scores of a text or a pair of texts."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from app.tasks.base import Example, Inputs, Task, TextParameters, assemble_always_list
from app.tasks.text import Direction, Text

FunctionToApply = Literal["sigmoid", "softmax", "none"]


class TextPair(Inputs):
    text: Text
    text_pair: Text | None = None


class TextClassificationParameters(TextParameters):
    function_to_apply: FunctionToApply | None = Field(
        default=None, description="What turns the model's outputs into scores. Unset: as the model's config says."
    )
    top_k: int | None = Field(default=None, ge=1, description="Answer only the best so many labels. Unset: all.")
    sort: bool | None = Field(
        default=None,
        description="false: all labels, in the model's own order, whatever `top_k`. Unset: the best first.",
    )
    truncation_direction: Direction | None = Field(
        default=None, description="Which end of a text is cut. Unset: as the tokenizer's files say."
    )


class Label(BaseModel):
    label: str
    score: float


TASK = Task(
    name="text-classification",
    aliases=("sentiment-analysis",),
    summary="Labels of a text, each with a score.",
    input_type=Text | TextPair,
    parameters=TextClassificationParameters,
    output_type=list[list[Label]],
    auto_classes=("AutoModelForSequenceClassification",),
    stages="app.runtime.pipelines:TextClassificationStages",
    is_repeatable=True,
    default_model="distilbert/distilbert-base-uncased-finetuned-sst-2-english",
    default_revision="714eb0f",
    example=Example(
        body={"inputs": "I loved every minute of this film.", "parameters": {"top_k": 2}},
        answer=[[{"label": "POSITIVE", "score": 0.99}, {"label": "NEGATIVE", "score": 0.01}]],
    ),
    batching="Texts of any requests, whatever their parameters.",
    assemble=assemble_always_list,
)
