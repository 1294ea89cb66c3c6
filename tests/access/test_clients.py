"""Who is let in, and how often."""

from __future__ import annotations

import pytest

from app.access.clients import Client, Clients
from app.access.keys import Allowance, Key, digest_of
from app.access.usage import Used
from app.errors import RateLimited, Unauthorized


class Clock:
    """Both clocks of the server, which the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(name: str, *, expires_at: float | None = None, **limits: int) -> Key:
    """Its secret is its name."""
    return Key(name=name, digest=digest_of(name.encode()), expires_at=expires_at, allowance=Allowance(**limits))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def clients(clock: Clock, *keys: Key) -> Clients:
    return Clients(keys, clock=clock, unix_time=clock)


def begin(client: Client, *, uses: int = 0) -> None:
    """A whole request."""
    client.begin()
    client.spend("model", Used(jobs=1, input_tokens=uses))
    client.end()


def test_client_is_found_by_any_of_the_secrets_that_it_shows(clock: Clock) -> None:
    """A proxy may have put one of its own before it."""
    found = clients(clock, made("a"), made("b"))
    assert found.identify([b"b"]).key.name == "b"
    assert found.identify([b"proxy", b"a"]).key.name == "a"


def test_refusals_say_why_and_are_counted(clock: Clock) -> None:
    """Wrong keys are never locked out: the right one works after any number of them."""
    found = clients(clock, made("a", expires_at=2000.0))
    with pytest.raises(Unauthorized, match="is needed"):
        found.identify([])
    for _ in range(1000):
        with pytest.raises(Unauthorized, match="not valid") as refused:
            found.identify([b"guess"])
    assert "guess" not in refused.value.message
    assert found.identify([b"a"]).key.name == "a"
    clock.now = 2000.0
    with pytest.raises(Unauthorized, match='"a" has expired'):
        found.identify([b"a"])
    assert found.refusals == {"missing": 1, "unknown": 1000, "expired": 1}


def test_requests_a_minute_are_limited(clock: Clock) -> None:
    """With the time until the next one; a refused one takes nothing."""
    (client,) = clients(clock, made("a", requests_per_minute=2))
    begin(client)
    begin(client)
    for _ in range(3):
        with pytest.raises(RateLimited, match="2 requests a minute") as refused:
            client.begin()
    assert refused.value.retry_after_s == pytest.approx(30)
    clock.now += 30
    begin(client)
    assert (client.usage.requests, client.usage.limited, client.num_open) == (3, 3, 0)


def test_requests_come_in_while_there_are_tokens_left(clock: Clock) -> None:
    """The one that overdraws is answered; what it took too much the next ones wait for."""
    (client,) = clients(clock, made("a", tokens_per_minute=60))
    begin(client, uses=59)
    begin(client, uses=100)
    with pytest.raises(RateLimited, match="60 tokens a minute") as refused:
        client.begin()
    assert refused.value.retry_after_s == pytest.approx(100)
    clock.now += 100
    begin(client)


def test_requests_at_a_time_are_limited(clock: Clock) -> None:
    """Until one of them ends."""
    (client,) = clients(clock, made("a", concurrent=2))
    client.begin()
    client.begin()
    with pytest.raises(RateLimited, match="2 requests open"):
        client.begin()
    client.end()
    client.begin()


def test_change_keeps_what_stays_the_same(clock: Clock) -> None:
    """Usage and what is left of a limit outlive it; a new limit is a full bucket, a revoked key lets nobody in."""
    found = clients(clock, made("a", requests_per_minute=1), made("b"))
    old = found.identify([b"a"])
    begin(old)
    found.change([made("a", requests_per_minute=1)])
    assert found.identify([b"a"]) is old and old.usage.requests == 1
    with pytest.raises(RateLimited):
        old.begin()
    found.change([made("a", requests_per_minute=5)])
    begin(old)
    with pytest.raises(Unauthorized):
        found.identify([b"b"])
    assert {client.key.name: found.is_valid(client) for client in found} == {"a": True, "b": False}


def test_revoked_key_is_still_accounted_for(clock: Clock) -> None:
    """What was used with it did not go away."""
    found = clients(clock, made("a"))
    begin(found.identify([b"a"]), uses=7)
    found.change([])
    (client,) = found
    assert client.usage.total() == Used(jobs=1, input_tokens=7)
