"""Durations as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from app.durations import parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0), (-1, -1), ("-1", -1), (2.5, 2.5), ("20", 20), ("0", 0), ("500ms", 0.5), ("20s", 20), ("5m", 300),
        ("1h", 3600), (" 1.5 s ", 1.5),
    ],
)  # fmt: skip
def test_duration_is_in_seconds(written: Any, seconds: float) -> None:
    """Numbers are seconds and units are honoured."""
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    ["", "soon", "5 days", "-2", -0.5, "-1h", float("nan"), float("inf"), True, None, [5], {}, 10**400, "1" * 99, "٣s"],
)
def test_what_is_no_duration_is_refused_with_a_sentence(written: Any) -> None:
    """The sentence shows what was given and what may be written."""
    with pytest.raises(ValueError, match="500ms, 20s"):
        parse_duration(written)
