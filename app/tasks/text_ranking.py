"""text-ranking: which texts answer a query best, judged by a cross-encoder that reads both together."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.tasks.base import Example, Inputs, Task, TextParameters
from app.tasks.text import Direction, Text


class TextRankingInputs(Inputs):
    query: Text
    texts: Annotated[list[Text], Field(min_length=1)]


class TextRankingParameters(TextParameters):
    raw_scores: bool | None = Field(
        default=None, description="true: the model's own output. Unset or false: between 0 and 1."
    )
    return_text: bool | None = Field(default=None, description="true: each place comes with its text.")
    top_n: int | None = Field(default=None, ge=1, description="Answer only the best so many texts. Unset: all.")
    truncation_direction: Direction | None = Field(
        default=None, description="Which end of a pair's longer text is cut. Unset: as the tokenizer's files say."
    )


class RankedText(BaseModel):
    index: int = Field(description="Its place in `texts`.")
    score: float
    text: str | None = None


def _normalize(body: dict[str, Any]) -> dict[str, Any]:
    """`query` and `texts` may stand at the root, as Text Embeddings Inference has them."""
    if "inputs" in body or "query" not in body:
        return body
    inputs = {name: body[name] for name in ("query", "texts") if name in body}
    return {"inputs": inputs, **{name: value for name, value in body.items() if name not in inputs}}


def _count_texts(one_input: Any, parameters: dict[str, Any]) -> int:
    return len(one_input["texts"])


TASK = Task(
    name="text-ranking",
    summary="Texts sorted by how well they answer a query, the best first.",
    input_type=TextRankingInputs,
    parameters=TextRankingParameters,
    output_type=list[RankedText] | list[list[RankedText]],
    auto_classes=("AutoModelForSequenceClassification",),
    stages="app.runtime.text_ranking:TextRankingStages",
    warm_up=({"query": "a", "texts": ["b"]}, {}),
    is_repeatable=True,
    default_model="cross-encoder/ms-marco-MiniLM-L6-v2",
    example=Example(
        body={
            "inputs": {
                "query": "Who wrote the first program?",
                "texts": ["The stock market fell.", "Ada Lovelace wrote it in 1843."],
            }
        },
        answer=[{"index": 1, "score": 0.97}, {"index": 0, "score": 0.01}],
    ),
    batching="Pairs of query and text of any requests, whatever their parameters.",
    root_parameters=("truncate", "truncation_direction", "raw_scores", "return_text", "top_n"),
    normalize=_normalize,
    count=_count_texts,
)
