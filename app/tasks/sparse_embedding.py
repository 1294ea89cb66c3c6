"""sparse-embedding: which words a text is about, and how much (SPLADE). Asked by `/embed_sparse` only."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.tasks.base import Example, Task, TextParameters, assemble_always_list
from app.tasks.text import Direction, Text


class SparseEmbeddingParameters(TextParameters):
    truncation_direction: Direction | None = Field(
        default=None, description="Which end of a text is cut. Unset: right."
    )


class Weight(BaseModel):
    index: int = Field(description="The token's id in the model's vocabulary.")
    value: float


TASK = Task(
    name="sparse-embedding",
    is_listed=False,
    summary="The weight of each token of the vocabulary for a text, those without weight left out.",
    input_type=Text,
    parameters=SparseEmbeddingParameters,
    output_type=list[list[Weight]],
    auto_classes=("AutoModelForMaskedLM",),
    stages="app.runtime.sparse:SparseEmbeddingStages",
    is_repeatable=True,
    default_model="naver/splade-v3",
    example=Example(body={"inputs": "A cat sleeps."}, answer=[[{"index": 4937, "value": 2.1}]]),
    batching="Texts of any requests.",
    assemble=assemble_always_list,
)
