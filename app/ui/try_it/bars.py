"""Labels and their scores as bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

HUES = ("#6366f1", "#f59e0b", "#10b981", "#ef4444", "#a855f7", "#06b6d4", "#ec4899", "#84cc16")
_MAX_BARS = 20


def bars_html(rows: Sequence[tuple[str, float]]) -> str:
    """Scores beyond 0 to 1 (logits, distances) are drawn against the largest."""
    most = max([1.0, *(abs(score) for _, score in rows)])
    bars = "".join(
        f'<div><span>{escape(label)}</span><output>{score:.3f}</output><i style="--share:{percent(score / most)}"></i>'
        "</div>"
        for label, score in rows[:_MAX_BARS]
    )
    more = f'<p class="ps-note">and {len(rows) - _MAX_BARS} more</p>' if len(rows) > _MAX_BARS else ""
    return f'<div class="ps-bars">{bars}</div>{more}'


def percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"
