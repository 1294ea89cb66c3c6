"""What models did of late."""

from __future__ import annotations

import pytest

from app.activity import STEP_S, WINDOW_S, Activity


class Ticking:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


def test_step_tells_its_requests_and_their_latencies(clock: Ticking) -> None:
    """When it is over; within 4.5 %, and without those that failed."""
    activity = Activity(clock)
    for milliseconds in range(1, 101):
        activity.answered("a", milliseconds / 1000)
    activity.failed("a")
    assert activity.of("a") == []
    clock.now += STEP_S
    (point,) = activity.of("a")
    assert (point.age_s, point.num_requests, point.num_failed) == (0.0, 101, 1)
    assert point.p50_s == pytest.approx(0.050, rel=0.045) and point.p99_s == pytest.approx(0.099, rel=0.045)
    assert activity.of("b") == []


def test_waiting_is_an_average(clock: Ticking) -> None:
    """Ten jobs that waited for the whole step are ten that wait; tokens are counted."""
    activity = Activity(clock)
    for _ in range(10):
        activity.waited("a", STEP_S)
    activity.generated("a", 7)
    clock.now += 2 * STEP_S
    (point,) = activity.of("a")
    assert (point.num_waiting, point.num_tokens, point.num_requests, point.p50_s) == (10.0, 7, 0, None)
    assert point.age_s == STEP_S


@pytest.mark.parametrize("seconds", [0.0, -0.001, 1e-9, 1e9])
def test_any_latency_is_counted(clock: Ticking, seconds: float) -> None:
    """Also what no clock should say."""
    activity = Activity(clock)
    activity.answered("a", seconds)
    clock.now += STEP_S
    assert activity.of("a")[0].num_requests == 1


def test_steps_end_with_the_window_and_with_their_model(clock: Ticking) -> None:
    """However long there are requests, so many steps are kept."""
    activity = Activity(clock)
    for _ in range(3 * int(WINDOW_S / STEP_S)):
        activity.answered("a", 0.01)
        clock.now += STEP_S
    points = activity.of("a")
    assert len(points) == WINDOW_S / STEP_S
    assert [point.age_s for point in points] == sorted((point.age_s for point in points), reverse=True)
    clock.now += WINDOW_S
    assert activity.of("a") == []
    activity.answered("a", 0.01)
    activity.forget("a")
    clock.now += STEP_S
    assert activity.of("a") == []
