"""Sessions of browsers: what opens one, and what ends it."""

from __future__ import annotations

from app.ui.sessions import Sessions


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_session_has_a_name_that_says_nothing_of_the_key() -> None:
    """Two logins with one key are two sessions."""
    sessions = Sessions(clock=Clock())
    first, second = sessions.open("secret-key"), sessions.open("secret-key")
    assert first != second and "secret" not in first and len(first) >= 43
    assert sessions.key_of(first) == sessions.key_of(second) == "secret-key"
    assert sessions.key_of("") is None and sessions.key_of(first + "x") is None


def test_session_ends_when_it_is_closed() -> None:
    """The other one goes on."""
    sessions = Sessions(clock=Clock())
    first, second = sessions.open("a"), sessions.open("b")
    sessions.close(first)
    assert sessions.key_of(first) is None and sessions.key_of(second) == "b"


def test_session_ends_after_it_was_idle() -> None:
    """Each use begins its time anew."""
    clock = Clock()
    sessions = Sessions(clock=clock, idle_s=10)
    name = sessions.open("a")
    for _ in range(3):
        clock.now += 9
        assert sessions.key_of(name) == "a"
    clock.now += 11
    assert sessions.key_of(name) is None
    clock.now -= 11
    assert sessions.key_of(name) is None  # what has ended does not come back


def test_oldest_session_makes_room() -> None:
    """The one that was used least recently."""
    sessions = Sessions(clock=Clock(), max_sessions=2)
    first, second = sessions.open("a"), sessions.open("b")
    sessions.key_of(first)
    third = sessions.open("c")
    assert [sessions.key_of(one) for one in (first, second, third)] == ["a", None, "c"]
