"""Vectors, and how near they are to each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from app.ui.try_it.bars import HUES, percent

_MAX_VALUES = 256
_MAX_SIDE = 40


def similarities(vectors: Sequence[Sequence[float]]) -> list[list[float]]:
    """The cosine of each with each; 0 beside a vector of zeros."""
    lengths = [math.sqrt(math.fsum(value * value for value in vector)) for vector in vectors]
    return [
        [
            math.fsum(a * b for a, b in zip(one, other, strict=True)) / (length * other_length or 1.0)
            for other, other_length in zip(vectors, lengths, strict=True)
        ]
        for one, length in zip(vectors, lengths, strict=True)
    ]


def matrix_html(texts: Sequence[str], rows: Sequence[Sequence[float]], *, names: Sequence[str] | None = None) -> str:
    """A cell for each number: the deeper, the nearer. names: of the columns, which are else the texts, by number."""
    shown = texts[:_MAX_SIDE]
    columns = [str(at + 1) for at in range(len(shown))] if names is None else list(names)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    cells = "".join(
        f'<tr><th scope="row" title="{escape(text)}">{"" if names else f"<small>{at + 1}</small> "}{escape(text)}</th>'
        + "".join(map(_cell, row[: len(columns)]))
        + "</tr>"
        for at, (text, row) in enumerate(zip(shown, rows, strict=False))
    )
    more = f'<p class="ps-note">The first {_MAX_SIDE} of {len(texts)}.</p>' if len(texts) > _MAX_SIDE else ""
    return (
        '<div class="ps-wide" tabindex="0" role="group" aria-label="Similarities">'
        f'<table class="ps-matrix"><tr><td></td>{head}</tr>{cells}</table></div>{more}'
    )


def _cell(score: float) -> str:
    """White letters where the ground is dark in light and in dark."""
    share = min(max(score, 0.0), 1.0)
    colour = ";color:#fff" if share > 0.74 else ""
    return (
        f'<td style="background:color-mix(in srgb, {HUES[0]} {percent(0.08 + 0.92 * share * share)},'
        f' var(--background-fill-secondary)){colour}">{score:.3f}</td>'
    )


def vector_html(answer: Any) -> str:
    """The first vector's values as columns: those below zero paler."""
    vector = answer
    while isinstance(vector[0], list):
        vector = vector[0]
    most = max((abs(value) for value in vector), default=1.0) or 1.0
    columns = "".join(
        f'<i style="height:{percent(abs(value) / most)};opacity:{1 if value >= 0 else 0.45}"></i>'
        for value in vector[:_MAX_VALUES]
    )
    first = ", ".join(f"{value:.4f}" for value in vector[:6])
    return (
        f'<div class="ps-vector" role="img" aria-label="The vector\'s values">{columns}</div>'
        f'<p class="ps-note">{len(vector)} values: {first}, ...</p>'
    )
