"""decision: typed questions about a state, each answered by probabilities from one forward pass."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from app.tasks.base import Example, Inputs, Parameters, Task
from app.tasks.media import Image
from app.tasks.text import Text

MAX_QUESTIONS = 64


class Question(Inputs):
    """criteria: of a choice its options (name: description), of a score its levels, the lowest first, of a noul what
    true and false mean."""

    type: Literal["noul", "choice", "score"]
    instructions: str | None = None
    criteria: dict[str, str | None] | list[str] | None = None


class DecisionInputs(Inputs):
    """assets: images by the placeholder that stands for each in the state, the instructions or the criteria."""

    state: Any
    questions: Annotated[dict[str, Question], Field(min_length=1, max_length=MAX_QUESTIONS)]
    assets: dict[Text, Image] | None = None

    @field_validator("assets", mode="before")
    @classmethod
    def _accept_objects(cls, assets: Any) -> Any:
        """`{"type": "image", "format": "png", "data_base64": ...}` means the file in it."""
        if not isinstance(assets, dict):
            return assets
        return {name: one.get("data_base64") if isinstance(one, dict) else one for name, one in assets.items()}


class DecisionParameters(Parameters):
    """It has none."""


TASK = Task(
    name="decision",
    summary="Typed questions about a state (yes or no, one of several, how much), each answered with probabilities.",
    modality="multimodal",
    input_type=DecisionInputs,
    parameters=DecisionParameters,
    output_type=dict[str, dict[str, Any]] | list[dict[str, dict[str, Any]]],
    auto_classes=("AutoModelForDecision", "AutoModelForImageTextToText", "AutoModelForCausalLM"),
    needs=("tokenizer", "processor?"),
    stages="app.runtime.multimodal.decisions:DecisionStages",
    warm_up=({"state": "a", "questions": {"b": {"type": "noul", "instructions": "c"}}}, {}),
    default_model="Qwen/Qwen2.5-0.5B-Instruct",
    example=Example(
        body={
            "inputs": {
                "state": "I was charged twice for my order and want a refund.",
                "questions": {
                    "refund": {"type": "noul", "instructions": "Is a refund requested?"},
                    "topic": {"type": "choice", "criteria": {"billing": "money", "delivery": "parcels"}},
                },
            }
        },
        answer={
            "refund": {"type": "noul", "noul": 0.93},
            "topic": {"type": "choice", "choice": "billing", "probabilities": {"billing": 0.9, "delivery": 0.1}},
        },
    ),
    batching="Requests share the queue but not a forward: each is computed by itself.",
)
