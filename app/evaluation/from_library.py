"""Metrics of Hugging Face's `evaluate` library, `--metric evaluate:NAME` or `evaluate:NAME:FIELD`: downloaded code, or
a script of one's own. The library imports torch where that is there, so the command does then, too."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from app.dataset.extras import needed
from app.errors import InvalidInput, NotServed
from app.evaluation.metric import Metric, Places, Score
from app.evaluation.pairs import Kind, Pair

PREFIX = "evaluate:"
_RESAMPLES = 100  # each is a whole computation


def library_metric(name: str, kind: Kind) -> Metric:
    """Raises NotAvailable, NotServed."""
    path, _, field = name.removeprefix(PREFIX).partition(":")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    evaluate = needed("evaluate", "eval")
    try:
        loaded = evaluate.load(path)
    except Exception as error:  # whatever its code raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotServed(f"--metric {name}: it cannot be had: {reason}") from None
    return Metric(name=name, kinds=(kind,), prepare=_prepared(loaded, kind, name, field), resamples=_RESAMPLES)


def _prepared(loaded: Any, kind: Kind, name: str, field: str) -> Callable[[Sequence[Pair]], Score]:
    def prepare(pairs: Sequence[Pair]) -> Score:
        numbers: dict[str, int] = {}
        predictions = [_prediction(kind, pair, numbers) for pair in pairs]
        references = [_reference(kind, pair, numbers) for pair in pairs]

        def score(places: Places) -> float:
            found = loaded.compute(
                predictions=[predictions[place] for place in places], references=[references[place] for place in places]
            )
            values = {key: value for key, value in found.items() if isinstance(value, int | float)}
            if (field or next(iter(values), "")) not in values:
                raise InvalidInput(f"--metric {name}: it gives {', '.join(found)}; say evaluate:NAME:FIELD.")
            return float(values[field or next(iter(values))])

        return score

    return prepare


def _prediction(kind: Kind, pair: Pair, numbers: dict[str, int]) -> Any:
    """Its metrics of labels take numbers."""
    if kind is Kind.LABEL:
        label = pair.predicted[0] if pair.predicted else ""
        return numbers.setdefault(label, len(numbers))
    return pair.predicted


def _reference(kind: Kind, pair: Pair, numbers: dict[str, int]) -> Any:
    if kind is Kind.LABEL:
        return numbers.setdefault(pair.reference, len(numbers))
    if kind in (Kind.TEXT, Kind.ANSWER):
        return pair.reference[0] if len(pair.reference) == 1 else list(pair.reference)
    return pair.reference
