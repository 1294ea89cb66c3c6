"""Sessions of browsers: what opens one, and what ends it."""

from __future__ import annotations

from app.ui.sessions import Sessions, Visitor


def visitor(key: str) -> Visitor:
    return Visitor(key=key, may_administer=False)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_session_has_a_name_that_says_nothing_of_the_key() -> None:
    """Two logins with one key are two sessions."""
    sessions = Sessions(clock=Clock())
    first, second = sessions.open(visitor("secret-key")), sessions.open(visitor("secret-key"))
    assert first != second and "secret" not in first and len(first) >= 43
    assert sessions.visitor_of(first) == sessions.visitor_of(second) == visitor("secret-key")
    assert sessions.visitor_of("") is None and sessions.visitor_of(first + "x") is None


def test_session_ends_when_it_is_closed() -> None:
    """The other one goes on."""
    sessions = Sessions(clock=Clock())
    first, second = sessions.open(visitor("a")), sessions.open(visitor("b"))
    sessions.close(first)
    assert sessions.visitor_of(first) is None and sessions.visitor_of(second) == visitor("b")


def test_session_ends_after_it_was_idle() -> None:
    """Each use begins its time anew."""
    clock = Clock()
    sessions = Sessions(clock=clock, idle_s=10)
    name = sessions.open(visitor("a"))
    for _ in range(3):
        clock.now += 9
        assert sessions.visitor_of(name) == visitor("a")
    clock.now += 11
    assert sessions.visitor_of(name) is None
    clock.now -= 11
    assert sessions.visitor_of(name) is None  # what has ended does not come back


def test_oldest_session_makes_room() -> None:
    """The one that was used least recently."""
    sessions = Sessions(clock=Clock(), max_sessions=2)
    first, second = sessions.open(visitor("a")), sessions.open(visitor("b"))
    sessions.visitor_of(first)
    third = sessions.open(visitor("c"))
    assert [sessions.visitor_of(one) for one in (first, second, third)] == [visitor("a"), None, visitor("c")]
