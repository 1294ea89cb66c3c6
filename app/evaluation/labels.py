"""Metrics of labels, by scikit-learn: of the counts of each pair of labels, so that a resample takes no longer for many
rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.dataset.extras import needed
from app.evaluation.metric import Metric, Places, Score, mean_of
from app.evaluation.pairs import Kind, Pair


def _accuracy(most: int) -> Callable[[Sequence[Pair]], Score]:
    def prepare(pairs: Sequence[Pair]) -> Score:
        return mean_of([float(pair.reference in pair.predicted[:most]) for pair in pairs])

    return prepare


def _by_sklearn(function: str, **keywords: Any) -> Callable[[Sequence[Pair]], Score]:
    def prepare(pairs: Sequence[Pair]) -> Score:
        compute = getattr(needed("sklearn.metrics", "eval"), function)
        codes: dict[str, int] = {}
        cells: dict[tuple[int, int], int] = {}
        places_of = np.array([cells.setdefault(_cell(pair, codes), len(cells)) for pair in pairs])
        references, predicted = np.array(list(cells)).T

        def score(places: Places) -> float:
            counts = np.bincount(places_of[places], minlength=len(cells))
            there = counts > 0
            return float(compute(references[there], predicted[there], sample_weight=counts[there], **keywords))

        return score

    return prepare


def _cell(pair: Pair, codes: dict[str, int]) -> tuple[int, int]:
    reference, predicted = (
        codes.setdefault(label, len(codes)) for label in (pair.reference, pair.predicted[0] if pair.predicted else "")
    )
    return reference, predicted


def _f1(average: str) -> Callable[[Sequence[Pair]], Score]:
    return _by_sklearn("f1_score", average=average, zero_division=0)


METRICS = (
    Metric(name="accuracy", kinds=(Kind.LABEL,), prepare=_accuracy(1)),
    Metric(name="top-5-accuracy", kinds=(Kind.LABEL,), prepare=_accuracy(5)),
    Metric(name="f1", kinds=(Kind.LABEL,), prepare=_f1("macro")),
    Metric(name="f1-micro", kinds=(Kind.LABEL,), prepare=_f1("micro")),
    Metric(name="f1-weighted", kinds=(Kind.LABEL,), prepare=_f1("weighted")),
    Metric(
        name="precision",
        kinds=(Kind.LABEL,),
        prepare=_by_sklearn("precision_score", average="macro", zero_division=0),
    ),
    Metric(name="recall", kinds=(Kind.LABEL,), prepare=_by_sklearn("recall_score", average="macro", zero_division=0)),
    Metric(name="mcc", kinds=(Kind.LABEL,), prepare=_by_sklearn("matthews_corrcoef")),
)
