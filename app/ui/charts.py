"""Charts of what a model did in the last minutes, as SVG of our own: small, and drawn anew every two seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from app.api.schemas import ActivityPoint, ModelActivity
from app.ui.words import count_text, seconds_text

_WIDTH, _HEIGHT = 300, 60  # of the drawing, which is stretched to its place
_NOW_S = 10.0
"""What a chart says in figures is about the last seconds: a step alone would flicker."""

Series = list[float | None]
"""A value for each step of the window, the oldest first; None: nothing is known of it."""


def charts_html(activity: ModelActivity, *, generates: bool) -> str:
    """generates: whether the model writes texts, so that tokens are of interest."""
    drawn = [_latency(activity), _requests(activity), _waiting(activity)]
    if generates:
        drawn.append(_tokens(activity))
    minutes = f"{activity.window_s / 60:.3g}"
    note = "" if activity.points else f'<p class="ps-note">No request ended in the last {minutes} minutes.</p>'
    return f'<div class="ps-charts">{"".join(drawn)}</div>{note}'


def _latency(activity: ModelActivity) -> str:
    p50, p99 = _series(activity, lambda one: one.p50_s), _series(activity, lambda one: one.p99_s)
    recent = [one for one in _recent(activity) if one.p50_s is not None and one.p99_s is not None]
    now = "–" if not recent else f"{seconds_text(recent[-1].p50_s or 0)} <small>p50</small>"
    also = "" if not recent else f"{seconds_text(recent[-1].p99_s or 0)} p99"
    return _chart("Latency", now, also, [p99, p50], seconds_text)


def _requests(activity: ModelActivity) -> str:
    recent = _recent(activity)
    failed = sum(one.failed for one in activity.points)
    return _chart(
        "Throughput",
        f"{_per_second(sum(one.requests for one in recent))} <small>requests/s</small>",
        f"{count_text(failed)} failed" if failed else "",
        [_series(activity, lambda one: one.requests / activity.step_s, 0.0)],
        lambda value: f"{count_text(value)}/s",
    )


def _waiting(activity: ModelActivity) -> str:
    return _chart(
        "Queue",
        f"{activity.queued} <small>waiting</small>",
        f"{activity.in_flight - activity.queued} running" if activity.in_flight else "",
        [_series(activity, lambda one: one.waiting, 0.0)],
        count_text,
    )


def _tokens(activity: ModelActivity) -> str:
    return _chart(
        "Generated",
        f"{_per_second(sum(one.generated_tokens for one in _recent(activity)))} <small>tokens/s</small>",
        "",
        [_series(activity, lambda one: one.generated_tokens / activity.step_s, 0.0)],
        lambda value: f"{count_text(value)}/s",
    )


def _recent(activity: ModelActivity) -> list[ActivityPoint]:
    return [one for one in activity.points if one.age_s < _NOW_S]


def _per_second(number: float) -> str:
    return count_text(number / _NOW_S)


def _series(
    activity: ModelActivity, value: Callable[[ActivityPoint], float | None], empty: float | None = None
) -> Series:
    """empty: of steps in which nothing ended."""
    found: Series = [empty] * round(activity.window_s / activity.step_s)
    for point in activity.points:
        at = len(found) - 1 - int(point.age_s / activity.step_s)
        if 0 <= at < len(found):
            found[at] = value(point)
    return found


def _chart(title: str, now: str, also: str, lines: Sequence[Series], show: Callable[[float], str]) -> str:
    """now, also: HTML. lines: the first may be the fainter one; the last is filled."""
    top = _ceiling(max((value for line in lines for value in line if value is not None), default=0.0))
    faint = "".join(f'<path class="ps-faint" d="{_path(line, top)}"/>' for line in lines[:-1])
    area = f'<path class="ps-area" d="{_area(lines[-1], top)}"/>' if None not in lines[-1] else ""
    plain = escape(f"{title}: {now} {also}".replace("<small>", "").replace("</small>", "").strip())
    return (
        f'<figure class="ps-chart"><figcaption><span>{title}</span><b>{now}</b><small>{also}</small></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{plain}">'
        f'{area}{faint}<path d="{_path(lines[-1], top)}"/></svg><span class="ps-top">{show(top)}</span></figure>'
    )


def _ceiling(value: float) -> float:
    """1, 2 or 5 times a power of ten, at least so much: an axis that does not jump with every answer."""
    if value <= 0:
        return 1.0
    unit: float = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 5, 10) if value <= step * unit * (1 + 1e-9))


def _path(line: Series, top: float) -> str:
    """With gaps where nothing is known; what stands alone is a dot."""
    drawn, is_drawing = [], False
    for at, value in enumerate(line):
        if value is None:
            is_drawing = False
            continue
        place = f"{_x(at, line)} {_y(value, top)}"
        drawn.append(f"L{place}" if is_drawing else f"M{place}h.01")
        is_drawing = True
    return "".join(drawn)


def _area(line: Series, top: float) -> str:
    places = "".join(f"L{_x(at, line)} {_y(value or 0.0, top)}" for at, value in enumerate(line))
    return f"M0 {_HEIGHT}{places}L{_WIDTH} {_HEIGHT}z"


def _x(at: int, line: Series) -> str:
    return f"{at * _WIDTH / max(1, len(line) - 1):.4g}"


def _y(value: float, top: float) -> str:
    """A line at the edge would be cut in half."""
    return f"{_HEIGHT - 1 - (_HEIGHT - 3) * value / top:.4g}"
