"""Metrics of rankings: of each row, the mean over rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.dataset.extras import needed
from app.errors import InvalidInput
from app.evaluation.metric import Metric, Score, mean_of
from app.evaluation.pairs import Kind, Pair

_CUTS = (1, 3, 5, 10, 20, 100)

_OfRow = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""Relevances and scores of one row's texts -> the value."""


def _mean(of_row: _OfRow) -> Callable[[Sequence[Pair]], Score]:
    return lambda pairs: mean_of([of_row(*_arrays(pair)) for pair in pairs])


def _arrays(pair: Pair) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A text that the model left out (`top_n`) is behind all others."""
    relevances, found = np.array(pair.reference), dict(pair.predicted)
    if max(found) >= len(relevances):
        raise InvalidInput(f"A row has {max(found) + 1} texts, and a relevance for {len(relevances)} of them only.")
    behind = min(found.values()) - 1
    return relevances, np.array([found.get(place, behind) for place in range(len(relevances))])


def _ndcg(most: int | None) -> _OfRow:
    def of_row(relevances: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
        if len(relevances) == 1:
            return 1.0  # scikit-learn takes no list of one: it is in its place
        return float(_sklearn().ndcg_score([relevances], [scores], k=most))

    return of_row


def _reciprocal_rank(most: int | None) -> _OfRow:
    def of_row(relevances: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
        order = np.argsort(-scores, kind="stable")[:most]
        (right,) = np.nonzero(relevances[order])
        return 1 / (1 + int(right[0])) if len(right) else 0.0

    return of_row


def _average_precision(relevances: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    return float(_sklearn().average_precision_score(relevances > 0, scores))


def _sklearn() -> Any:
    return needed("sklearn.metrics", "eval")


def _metric(name: str, of_row: _OfRow) -> Metric:
    return Metric(name=name, kinds=(Kind.RANKING,), prepare=_mean(of_row))


METRICS = (
    *(_metric(f"ndcg@{most}", _ndcg(most)) for most in _CUTS),
    *(_metric(f"mrr@{most}", _reciprocal_rank(most)) for most in _CUTS),
    _metric("ndcg", _ndcg(None)),
    _metric("mrr", _reciprocal_rank(None)),
    _metric("map", _average_precision),
)
