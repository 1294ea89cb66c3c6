"""What a model answered to a row -> columns of the output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from app.tasks.base import Task

_BEST_FIRST = frozenset(
    {
        "audio-classification",
        "document-question-answering",
        "fill-mask",
        "image-classification",
        "question-answering",
        "text-classification",
        "video-classification",
        "visual-question-answering",
        "zero-shot-audio-classification",
        "zero-shot-classification",
        "zero-shot-image-classification",
    }
)
"""Their answers are the best one, or a list that begins with it."""

_LISTS = {
    "feature-extraction": "embedding",
    "image-feature-extraction": "embedding",
    "image-segmentation": "segments",
    "keypoint-matching": "matches",
    "mask-generation": "masks",
    "object-detection": "objects",
    "sentence-similarity": "similarities",
    "sparse-embedding": "embedding",
    "text-ranking": "ranking",
    "token-classification": "entities",
    "zero-shot-object-detection": "objects",
}
"""Their answers are one value, under this name."""

ALL = "answers"
_OTHERWISE = "answer"
PREFIX = "model_"
"""Before the names of answers where the data have columns of the same ones."""


def answer_columns(task: Task, answer: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the answer; of a list that begins with the best the best one's, and the list as `answers` where
    more than one was asked for (`top_k`)."""
    if task.name in _LISTS:
        if task.name == "sentence-similarity" and isinstance(answer, list) and len(answer) == 1:
            return {"similarity": answer[0]}
        return {_LISTS[task.name]: answer}
    if isinstance(answer, dict):
        return answer
    if isinstance(answer, list) and answer and all(isinstance(one, dict) for one in answer):
        if task.name in _BEST_FIRST:
            more = {ALL: answer} if (parameters.get("top_k") or 1) > 1 else {}
            return {**answer[0], **more}
        if len(answer) == 1:
            return dict(answer[0])
    return {_OTHERWISE: answer}


def prefix_for(names: Collection[str], taken: Collection[str]) -> str:
    """The same for all answers, so that a label of the data is never mistaken for the model's."""
    return PREFIX if any(name in taken for name in names) else ""
