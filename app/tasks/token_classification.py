"""token-classification: the entities in a text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.tasks.base import Example, Task, TextParameters
from app.tasks.text import Text

Words = Annotated[list[Text], Field(min_length=1)]


class TokenClassificationParameters(TextParameters):
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        default=None, description="How tokens are fused into entities. Unset: simple."
    )
    ignore_labels: list[str] | None = Field(default=None, description='Labels left out. Unset: ["O"].')
    stride: int | None = Field(
        default=None, ge=0, description="Cut long texts into windows that overlap by so many tokens."
    )
    is_split_into_words: bool | None = Field(
        default=None, description="`inputs` is a list of words (or a list of such lists), not of texts."
    )
    delimiter: str | None = Field(default=None, description="What joined the words of a split text. Unset: a space.")


class Entity(BaseModel):
    """`entity_group` with an aggregation strategy; `entity` and `index` with `none`."""

    entity_group: str | None = None
    entity: str | None = None
    index: int | None = None
    score: float
    word: str
    start: int | None
    end: int | None


def _is_single(inputs: Any, parameters: dict[str, Any]) -> bool:
    if not isinstance(inputs, list):
        return True
    return parameters.get("is_split_into_words") is True and not any(isinstance(one, list) for one in inputs)


TASK = Task(
    name="token-classification",
    aliases=("ner",),
    summary="The entities in a text (people, places, ...), each with its place and score.",
    input_type=Text | Words,
    parameters=TokenClassificationParameters,
    output_type=list[Entity] | list[list[Entity]],
    auto_classes=("AutoModelForTokenClassification",),
    stages="app.runtime.pipelines:TokenClassificationStages",
    is_repeatable=True,
    default_model="dbmdz/bert-large-cased-finetuned-conll03-english",
    default_revision="4c53496",
    example=Example(
        body={"inputs": "Ada Lovelace lived in London."},
        answer=[
            {"entity_group": "PER", "score": 0.99, "word": "Ada Lovelace", "start": 0, "end": 12},
            {"entity_group": "LOC", "score": 0.99, "word": "London", "start": 22, "end": 28},
        ],
    ),
    batching="Texts, and windows of long texts, of any requests, whatever their parameters.",
    is_single=_is_single,
)
