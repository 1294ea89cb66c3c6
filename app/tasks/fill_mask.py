"""fill-mask: the likeliest tokens for the model's mask token in a text."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from app.tasks.base import Example, Task, TextParameters
from app.tasks.text import Text


class FillMaskParameters(TextParameters):
    top_k: int | None = Field(default=None, ge=1, description="How many tokens per mask. Unset: 5.")
    targets: Annotated[list[Text], Field(min_length=1)] | Text | None = Field(
        default=None, description="Rank only these tokens."
    )


class Filling(BaseModel):
    score: float
    token: int
    token_str: str
    sequence: str


TASK = Task(
    name="fill-mask",
    summary="The likeliest tokens for the mask in a text.",
    input_type=Text,
    parameters=FillMaskParameters,
    output_type=list[Filling] | list[list[Filling]] | list[list[list[Filling]]],
    auto_classes=("AutoModelForMaskedLM",),
    stages="app.runtime.pipelines:FillMaskStages",
    warm_up=("a [MASK] b", {}),
    is_repeatable=True,
    default_model="distilbert/distilroberta-base",
    default_revision="fb53ab8",
    example=Example(
        body={"inputs": "The capital of France is [MASK].", "parameters": {"top_k": 1}},
        answer=[{"score": 0.9, "token": 3000, "token_str": "paris", "sequence": "the capital of france is paris."}],
    ),
    batching="Texts of any requests, whatever their parameters.",
)
