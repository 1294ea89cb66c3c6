"""What an evaluation found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from app.dataset.journal import Journal
from app.dataset.rows import BadRow, Source
from app.errors import InvalidInput
from app.evaluation.bootstrap import RESAMPLES, Difference, Estimate, estimates
from app.evaluation.metric import Metric
from app.evaluation.pairs import Kind, Pair, References, predicted


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model that was evaluated. rows_per_s: while its rows were computed. forward_ms: of a row, on the device; of
    several in one forward each its share. memory_bytes: of the loaded model."""

    name: str
    set_aside: int
    rows_per_s: float | None
    forward_ms: float | None
    memory_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """difference: of the second variant from the first."""

    metric: str
    is_better_lower: bool
    estimates: Sequence[Estimate]
    difference: Difference | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """compared: rows that every variant answered, and that have a reference. agreement: the share of them with equal
    answers (labels, orders), of two variants; None of numbers."""

    task: str
    rows: int
    compared: int
    variants: Sequence[Variant]
    measured: Sequence[Measured]
    agreement: float | None


@dataclass(frozen=True, slots=True)
class _Answered:
    """One row: what each variant answered, and the values of the data."""

    answers: Sequence[Any]
    values: Mapping[str, Any]


def _answered(source: Source, journals: Sequence[Journal]) -> Iterator[_Answered]:
    """Rows that all have an answer to."""
    every = [journal.entries() for journal in journals]
    for row, *entries in zip(source.rows(), *every, strict=True):
        answers = [entry.answer for entry in entries if entry.answer is not None]
        if len(answers) == len(entries):
            yield _Answered([msgspec.json.decode(one) for one in answers], row.values)


class Comparison:
    """Pairs of all variants, by what the metrics compare; the journals hold every row."""

    def __init__(self, source: Source, journals: Sequence[Journal], references: References, kinds: set[Kind]) -> None:
        """Raises InvalidInput where no row has a reference, with the first one's reason."""
        self.num_rows = source.num_rows
        self.num_pairs = 0
        self._pairs: dict[Kind, list[list[Pair]]] = {kind: [[] for _ in journals] for kind in kinds}
        self._num_equal = 0
        told_apart = next((kind for kind in Kind if kind in kinds and kind is not Kind.NUMBER), Kind.NUMBER)
        self._has_agreement = told_apart is not Kind.NUMBER  # of two numbers it would be never, or chance
        problem: str | None = None
        for row in _answered(source, journals):
            try:
                found = {kind: references.read(kind, row.values) for kind in kinds}
            except BadRow as error:
                problem = problem or str(error)
                continue
            self.num_pairs += 1
            for kind, reference in found.items():
                for pairs, answer in zip(self._pairs[kind], row.answers, strict=True):
                    pairs.append(Pair(predicted(kind, answer), reference))
            self._num_equal += len({_shown(told_apart, pairs[-1]) for pairs in self._pairs.get(told_apart, ())}) == 1
        if self.num_pairs == 0:
            raise InvalidInput(problem or f"No row was answered by every model: {_first_problem(journals)}")
        if Kind.LABEL in kinds:
            _check_labels(self._pairs[Kind.LABEL])

    @property
    def agreement(self) -> float | None:
        return self._num_equal / self.num_pairs if self._has_agreement else None

    def measure(self, metric: Metric, kind: Kind, resamples: int) -> Measured:
        scores = [metric.prepare(pairs) for pairs in self._pairs[kind]]
        found = estimates(scores, self.num_pairs, min(resamples, metric.resamples or RESAMPLES))
        difference = found.pop() if isinstance(found[-1], Difference) else None
        return Measured(
            metric=metric.name,
            is_better_lower=metric.is_better_lower,
            estimates=found,
            difference=difference if isinstance(difference, Difference) else None,
        )


def _first_problem(journals: Sequence[Journal]) -> str | None:
    return next((one.problem for journal in journals for one in journal.entries() if one.problem is not None), None)


def _shown(kind: Kind, pair: Pair) -> str:
    """Of labels the likeliest, of a ranking its order."""
    match kind:
        case Kind.LABEL:
            return repr(pair.predicted[:1])
        case Kind.RANKING:
            return repr([place for place, _ in sorted(pair.predicted, key=lambda one: -one[1])])
        case _:
            return repr(pair.predicted)


def _check_labels(variants: Sequence[Sequence[Pair]]) -> None:
    """Raises InvalidInput where the data's labels are none of the model's, which would look like a bad model."""
    theirs = sorted({pair.reference for pair in variants[0]})
    for pairs in variants:
        ours = sorted({label for pair in pairs for label in pair.predicted})
        if not set(ours) & set(theirs):
            raise InvalidInput(
                f"The labels of the data ({_few(theirs)}) are none of those that the model answers ({_few(ours)}):"
                f" --label-name {theirs[0]}={ours[0] if ours else 'LABEL'} says what each means."
            )


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
