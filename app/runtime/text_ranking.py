"""text-ranking: a pair (query, text) per item through a sequence classifier, as sentence-transformers' CrossEncoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from app.errors import NotAvailable
from app.runtime.base import Item
from app.runtime.finite import require_finite
from app.runtime.parts import Parts
from app.runtime.pipelines import PipelineStages


class TextRankingStages(PipelineStages):
    """One label: its logit is the score, through a sigmoid unless raw. Two: the second means "relevant"."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        num_labels = self._model.config.num_labels
        if num_labels > 2:
            raise NotAvailable(
                f"This model tells {num_labels} labels apart, and none is a rank: text-ranking takes a cross-encoder."
            )

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        rows = self._encoder.encode(
            [one["query"] for one in inputs for _ in one["texts"]],
            [text for one in inputs for text in one["texts"]],
            owners=[index for index, one in enumerate(inputs) for _ in one["texts"]],
            truncate=parameters.get("truncate") is True,
            side=_side(parameters),
        )
        texts = [text for one in inputs for text in one["texts"]]
        items = iter([self._item(row, {"text": text}) for row, text in zip(rows, texts, strict=True)])
        return [[next(items) for _ in one["texts"]] for one in inputs]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        logits = torch.stack(list(outputs))
        require_finite(logits)
        scores = _scores(logits, is_raw=parameters.get("raw_scores") is True)
        # The logits decide: a sigmoid calls all that is far from zero the same. Equal ones keep their order.
        order = sorted(range(len(items)), key=_scores(logits, is_raw=True).__getitem__, reverse=True)
        answer: list[dict[str, Any]] = []
        for index in order[: parameters.get("top_n")]:
            place: dict[str, Any] = {"index": index, "score": scores[index]}
            if parameters.get("return_text"):
                place["text"] = items[index].features.extras["text"]
            answer.append(place)
        return answer


def _side(parameters: dict[str, Any]) -> str | None:
    direction: str | None = parameters.get("truncation_direction")
    return None if direction is None else direction.lower()


def _scores(logits: torch.Tensor, *, is_raw: bool) -> list[float]:
    """[pairs, labels] -> one number a pair."""
    if logits.shape[1] == 1:
        logits = logits[:, 0]
    else:
        logits = logits[:, 1] - logits[:, 0]  # the sigmoid of the difference is the softmax's second
    scores: list[float] = (logits if is_raw else logits.sigmoid()).tolist()
    return scores
