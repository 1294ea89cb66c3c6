"""feature-extraction: the embedding of a text, or the vectors of its tokens. A text may come as its tokens."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from app.tasks.base import Example, Task, TextParameters, assemble_always_list
from app.tasks.text import Direction, Text, TokenIds

EMBEDDING_TASKS = frozenset({"feature-extraction", "sentence-similarity"})
"""What any text encoder's body does; all other tasks need a head, or a class of their own."""


class FeatureExtractionParameters(TextParameters):
    """All of them may also stand at the root of the body, as `InferenceClient` and TEI's users send them."""

    normalize: bool | None = Field(
        default=None, description="Scale vectors to length 1. Unset: as the model's files say."
    )
    prompt_name: str | None = Field(default=None, description="Put this prompt of the model's files before the text.")
    truncation_direction: Direction | None = Field(
        default=None, description="Which end of a text is cut. Unset: right."
    )
    dimensions: int | None = Field(
        default=None, ge=1, description="Keep so many leading dimensions (for Matryoshka models), scaled again."
    )
    pooling: Literal["none", "mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"] | None = Field(
        default=None, description="Override the model's pooling; `none` answers one vector per token."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="base64: each vector as base64 of little-endian float32. Unset: float."
    )


Vector = list[float]


def _is_one(inputs: Any, parameters: dict[str, Any]) -> bool:
    """A list of tokens is one input."""
    return not isinstance(inputs, list) or (bool(inputs) and all(type(one) is int for one in inputs))


TASK = Task(
    name="feature-extraction",
    summary="The embedding of a text; for models without pooling, one vector per token.",
    input_type=Text | TokenIds,
    parameters=FeatureExtractionParameters,
    output_type=list[Vector] | list[list[Vector]] | list[str],
    auto_classes=("AutoModel",),
    stages="app.runtime.embeddings:EmbeddingStages",
    implies=("sentence-similarity",),
    answers=("application/json", "application/x-npy"),
    is_repeatable=True,
    default_model="sentence-transformers/all-MiniLM-L6-v2",
    example=Example(body={"inputs": "A cat sleeps on the sofa."}, answer=[[0.07, -0.01, 0.04]]),
    batching="Texts of any requests, whatever their parameters.",
    root_parameters=(
        "normalize",
        "prompt_name",
        "truncate",
        "truncation_direction",
        "dimensions",
        "pooling",
        "encoding_format",
    ),
    is_single=_is_one,
    assemble=assemble_always_list,
)
