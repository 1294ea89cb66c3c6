"""The tuner's table on a model's page."""

from __future__ import annotations

from typing import Any

from app.api.schemas import TunedCandidate, Tuning
from app.ui.tuned import tuning_html


def candidate(name: str, **changes: Any) -> TunedCandidate:
    known: dict[str, Any] = {
        "name": name, "keys": {}, "dtype": "float32", "speedup": 1.0, "memory_bytes": 104_000_000,
        "latency_s": {"1 × short": 0.004, "8 × short": 0.02, "8 × long": 0.1},
        "inputs_per_s": {"1 × short": 250, "8 × short": 400, "8 × long": 80},
        "load_s": [9.0, 1.24], "difference": 0.0, "cosine_distance": None, "is_allowed": True, "problem": None,
    }  # fmt: skip
    return TunedCandidate(**{**known, **changes})


def tuning(*candidates: TunedCandidate, **changes: Any) -> Tuning:
    known: dict[str, Any] = {
        "device": "cpu", "at": "2026-11-25T12:00:00+00:00", "aim": "both", "bound": 0.02, "chosen": "onnx int8",
        "is_used": True,
    }  # fmt: skip
    return Tuning(**{**known, **changes}, candidates=list(candidates))


def test_table_says_what_each_variant_gives_and_costs() -> None:
    """Times of one input, inputs a second of many, the load that will be usual, the largest difference."""
    html = tuning_html(tuning(candidate("torch"), candidate("onnx int8", speedup=2.104, difference=0.0123)))
    for told in ("4 ms", "80/s", "104 MB", "1.2 s", "2.10", "1.2e-02", "8 × long"):
        assert told in html
    assert "8 × short" not in html
    assert html.count("chosen</span>") == 1 and "The model is computed by it." in html


def test_what_could_not_be_measured_says_why() -> None:
    """In words that are text."""
    html = tuning_html(tuning(candidate("torch"), candidate("openvino", problem="<b>No</b> library.")))
    assert "&lt;b&gt;No&lt;/b&gt; library." in html and "<b>No" not in html


def test_choice_that_serves_nobody_says_how_it_would() -> None:
    """Also one that was stored before its table was."""
    html = tuning_html(tuning(is_used=False))
    assert "<code>backend: auto</code>" in html and "<table" not in html and "onnx int8" in html
