"""Every metric by its name, and those of a task where none is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import InvalidInput
from app.evaluation import labels, others, ranking, texts
from app.evaluation.from_library import PREFIX, library_metric
from app.evaluation.metric import Metric
from app.evaluation.pairs import Kind, kinds_of
from app.tasks.base import Task

ALL = (*labels.METRICS, *texts.METRICS, *others.METRICS, *ranking.METRICS)

_USUAL = {
    Kind.LABEL: ("accuracy", "f1"),
    Kind.TEXT: ("exact-match", "rougel"),
    Kind.ANSWER: ("exact-match", "f1"),
    Kind.NUMBER: ("spearman", "pearson"),
    Kind.ENTITIES: ("f1", "precision", "recall"),
    Kind.OBJECTS: ("map", "map50"),
    Kind.RANKING: ("ndcg@10", "mrr@10"),
}
_USUAL_OF = {
    "automatic-speech-recognition": ("wer", "cer"),
    "summarization": ("rouge1", "rouge2", "rougel"),
    "translation": ("bleu", "chrf"),
}


def metrics_of(task: Task, asked: Sequence[str]) -> list[tuple[Metric, Kind]]:
    """Each with what it compares. Raises InvalidInput, NotAvailable."""
    kinds = kinds_of(task)
    names = asked or _USUAL_OF.get(task.name) or _USUAL[kinds[0]]
    return [
        (library_metric(name, kinds[0]), kinds[0]) if name.startswith(PREFIX) else _find(name.lower(), kinds, task)
        for name in names
    ]


def _find(name: str, kinds: tuple[Kind, ...], task: Task) -> tuple[Metric, Kind]:
    for kind in kinds:
        for metric in ALL:
            if metric.name == name and kind in metric.kinds:
                return metric, kind
    there = dict.fromkeys(metric.name for metric in ALL if set(metric.kinds) & set(kinds))
    raise InvalidInput(f"--metric {name}: {task.name} has {', '.join(there)}.", param="metric")
