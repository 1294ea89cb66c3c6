"""sentence-similarity: how close sentences are to one source sentence."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from app.tasks.base import Example, Inputs, Task, TextParameters
from app.tasks.text import Direction, Text


class SentenceSimilarityInputs(Inputs):
    source_sentence: Text
    sentences: Annotated[list[Text], Field(min_length=1)]


class SentenceSimilarityParameters(TextParameters):
    prompt_name: str | None = Field(default=None, description="Put this prompt of the model's files before each text.")
    similarity_fn_name: Literal["cosine", "dot", "euclidean", "manhattan"] | None = Field(
        default=None, description="The measure; distances count negative. Unset: as the model's files say."
    )
    truncation_direction: Direction | None = Field(
        default=None, description="Which end of a text is cut. Unset: right."
    )


def _count_sentences(one_input: Any, parameters: dict[str, Any]) -> int:
    return 1 + len(one_input["sentences"])


TASK = Task(
    name="sentence-similarity",
    summary="The similarity of each sentence to the source sentence, by the model's own measure (mostly the cosine).",
    input_type=SentenceSimilarityInputs,
    parameters=SentenceSimilarityParameters,
    output_type=list[float] | list[list[float]],
    auto_classes=("AutoModel",),
    stages="app.runtime.embeddings:SentenceSimilarityStages",
    warm_up=({"source_sentence": "a", "sentences": ["b"]}, {}),
    is_repeatable=True,
    default_model="sentence-transformers/all-MiniLM-L6-v2",
    example=Example(
        body={
            "inputs": {
                "source_sentence": "A man plays the guitar.",
                "sentences": ["Somebody plays a musical instrument.", "The stock market fell."],
            }
        },
        answer=[0.68, 0.02],
    ),
    batching="Sentences of any requests, and the texts of feature-extraction beside them.",
    count=_count_sentences,
)
