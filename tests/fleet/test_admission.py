"""Permits, and how long until there are some."""

from __future__ import annotations

import pytest

from app.errors import InputTooLarge, Overloaded
from app.fleet.admission import Admission


def admission(*, model: int = 10, total: int = 100) -> Admission:
    made = Admission(total)
    made.add("a", model)
    return made


def test_all_permits_or_none() -> None:
    """A refused request has taken nothing."""
    queue = admission()
    queue.acquire("a", 8, 0)
    with pytest.raises(Overloaded, match="8 of 10"):
        queue.acquire("a", 3, 0)
    assert queue.in_use("a") == 8
    queue.acquire("a", 2, 0)


def test_permits_come_back() -> None:
    """To the model and to the total."""
    queue = admission(model=10, total=10)
    for _ in range(5):
        queue.acquire("a", 10, 0)
        queue.release("a", 10, 1, is_answered=True)


def test_more_than_the_capacity_is_too_large() -> None:
    """The sentence names the smaller of both limits."""
    with pytest.raises(InputTooLarge, match="11 inputs; .* at most 10"):
        admission().acquire("a", 11, 0)
    with pytest.raises(InputTooLarge, match="at most 7"):
        admission(total=7).acquire("a", 8, 0)


def test_retry_after_is_what_the_queue_needs_at_its_speed() -> None:
    """Two items a second, twenty too many: ten seconds."""
    queue = admission(model=30)
    queue.acquire("a", 30, 0.0)
    for second in range(1, 11):
        queue.release("a", 2, float(second), is_answered=True)
        queue.acquire("a", 2, float(second))
    with pytest.raises(Overloaded) as raised:
        queue.acquire("a", 20, 10.0)
    assert raised.value.retry_after_s == pytest.approx(10, rel=0.01)


def test_idle_time_does_not_slow_the_measured_speed() -> None:
    """An hour without requests is no measurement."""
    queue = admission()
    for start in (0.0, 3600.0):
        queue.acquire("a", 10, start)
        queue.release("a", 10, start + 1, is_answered=True)
    queue.acquire("a", 10, 7200.0)
    with pytest.raises(Overloaded) as raised:
        queue.acquire("a", 10, 7200.0)
    assert raised.value.retry_after_s == pytest.approx(1, rel=0.01)


def test_an_unknown_speed_gives_a_second() -> None:
    """Cancelled items tell nothing."""
    queue = admission()
    queue.acquire("a", 5, 0)
    queue.release("a", 5, 50, is_answered=False)
    queue.acquire("a", 10, 50)
    with pytest.raises(Overloaded) as raised:
        queue.acquire("a", 10, 50)
    assert raised.value.retry_after_s == 1.0


def test_retry_after_has_bounds() -> None:
    """Never longer than a minute."""
    queue = admission()
    queue.acquire("a", 10, 0)
    queue.release("a", 1, 1000, is_answered=True)
    with pytest.raises(Overloaded) as raised:
        queue.acquire("a", 10, 1000)
    assert raised.value.retry_after_s == 60.0


def test_who_is_refused_is_counted() -> None:
    """By whose queue was full."""
    seen: list[tuple[str, str]] = []
    queue = Admission(10, lambda model, reason: seen.append((model, reason)))
    queue.add("a", 5)
    queue.add("b", 10)
    queue.acquire("a", 5, 0)
    for model in ("a", "b"):
        with pytest.raises(Overloaded):
            queue.acquire(model, 6 if model == "b" else 1, 0)
    assert seen == [("a", "model_queue"), ("b", "total_queue")]
