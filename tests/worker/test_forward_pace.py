"""How long a forward will take at least."""

from __future__ import annotations

import pytest

from app.worker.forward_pace import ForwardPace


def test_nothing_is_late_by_what_is_not_known() -> None:
    """A task that was not computed yet takes no time."""
    pace = ForwardPace(32)
    pace.learn("fill-mask", 32, 1.0)
    assert pace.seconds_for("text-classification", 1000) == 0


def test_a_forward_takes_its_overhead_and_its_tokens() -> None:
    """Twice as many tokens are not twice as long."""
    pace = ForwardPace(32)
    pace.learn("fill-mask", 32, 1.0)
    assert pace.seconds_for("fill-mask", 32) == pytest.approx(1.0)
    assert pace.seconds_for("fill-mask", 64) == pytest.approx(1.5)


def test_the_fastest_counts_and_is_forgotten() -> None:
    """One slow forward makes nothing late; a machine that stays slower is believed in the end."""
    pace = ForwardPace(0)
    pace.learn("fill-mask", 1, 1.0)
    pace.learn("fill-mask", 1, 9.0)
    assert pace.seconds_for("fill-mask", 1) < 1.1
    for _ in range(200):
        pace.learn("fill-mask", 1, 9.0)
    assert pace.seconds_for("fill-mask", 1) == pytest.approx(9.0)
    pace.learn("fill-mask", 1, 0.5)
    assert pace.seconds_for("fill-mask", 1) == pytest.approx(0.5)
