"""Counts of the last hours."""

from __future__ import annotations

from app.recent import WINDOW_S, Recent


def test_what_is_long_ago_is_forgotten() -> None:
    """Bit by bit, whether anything new comes or not; each name has its own count."""
    now = 0.0
    recent = Recent(lambda: now)
    for _ in range(3):
        recent.add("a")
    recent.add("b")
    assert (recent.of("a"), recent.of("b"), recent.of("c")) == (3, 1, 0)
    now = WINDOW_S / 2
    recent.add("a")
    assert recent.of("a") == 4
    now = WINDOW_S + 1
    assert (recent.of("a"), recent.of("b")) == (1, 0)
    now = 2 * WINDOW_S
    assert recent.of("a") == 0
