"""A model's charts, of its activity as the server tells it."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from app.api.schemas import ActivityPoint, ModelActivity
from app.ui.charts import charts_html


def point(age_s: float, **changes: Any) -> ActivityPoint:
    known: dict[str, Any] = {
        "age_s": age_s, "requests": 4, "failed": 0, "p50_s": 0.018, "p99_s": 0.03, "waiting": 0.5,
        "generated_tokens": 0,
    }  # fmt: skip
    return ActivityPoint(**{**known, **changes})


def charts(*points: ActivityPoint, generates: bool = False, **changes: Any) -> list[ElementTree.Element]:
    """The figures, which are well-formed."""
    known: dict[str, Any] = {"id": "a", "state": "ready", "in_flight": 3, "queued": 1, "window_s": 20, "step_s": 2}
    activity = ModelActivity(**{**known, **changes}, points=list(points))
    return ElementTree.fromstring(f"<div>{charts_html(activity, generates=generates)}</div>").findall(".//figure")


def text(chart: ElementTree.Element) -> str:
    return " ".join(part.strip() for part in chart.itertext())


def moves(chart: ElementTree.Element) -> str:
    """Of its last line: M for a beginning, L for each step that goes on."""
    return re.sub(r"[^ML]", "", chart.findall(".//path")[-1].attrib["d"])


def test_figures_are_about_the_last_seconds() -> None:
    """The rates over ten of them; what waits and runs is what does so now."""
    latency, throughput, queue = charts(point(11, requests=1000), point(4, requests=40), point(0, requests=60))
    assert text(latency).split() == "Latency 18 ms p50 30 ms p99 to 50 ms".replace("to ", "").split()
    assert "10 requests/s" in text(throughput) and "500/s" in text(throughput)
    assert "1 waiting 2 running" in text(queue)


def test_latency_has_gaps_where_nothing_was_answered() -> None:
    """Throughput has none: nothing is zero there."""
    latency, throughput, _ = charts(point(14), point(12), point(4), point(0, p50_s=None, p99_s=None, failed=4))
    assert moves(latency) == "MLM"
    assert moves(throughput) == "M" + "L" * 9
    assert "4 failed" in text(throughput)


def test_tokens_are_drawn_of_models_that_write() -> None:
    """A second."""
    *_, tokens = charts(point(0, generated_tokens=165), generates=True)
    assert "16.5 tokens/s" in text(tokens)
    assert len(charts(point(0))) == 3


def test_silence_is_told() -> None:
    """With flat lines, not with an error."""
    activity = ModelActivity(id="a", state="unloaded", in_flight=0, queued=0, window_s=300, step_s=2, points=[])
    html = charts_html(activity, generates=True)
    assert "No request ended in the last 5 minutes." in html and "NaN" not in html and html.count("<figure") == 4


def test_steps_outside_of_the_window_are_left_out() -> None:
    """A server may keep more."""
    _, throughput, _ = charts(point(19.9), point(30))
    assert moves(throughput) == "M" + "L" * 9
