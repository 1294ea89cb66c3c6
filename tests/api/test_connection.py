"""Clients that take too long about a head, a body or an answer, and too many of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from app.settings import Settings
from tests.api.conftest import LiveServer
from tests.server import metric

LIMIT_S = 0.4
PAUSE_S = 0.1
MAX_CONNECTIONS = 20
PATH = "/v1/text-classification"
NUM_INPUTS = 150_000
"""Of one request whose answer has megabytes."""
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
BODY = b'{"inputs": "a"}'


@pytest.fixture(scope="module")
def impatient_server() -> Iterator[LiveServer]:
    settings = Settings(client_timeout_s=LIMIT_S, max_connections=MAX_CONNECTIONS, max_queue_items=NUM_INPUTS)
    with LiveServer(settings) as running:
        yield running


def rest_of(client: socket.socket) -> bytes:
    """What comes until the connection ends."""
    parts = []
    while part := client.recv(2**16):
        parts.append(part)
    return b"".join(parts)


def drip(client: socket.socket, said: bytes, more: bytes = b"a") -> bytes:
    """Say it, and then a little more again and again until the server hangs up."""
    client.sendall(said)
    client.settimeout(PAUSE_S)
    for _ in range(200):
        try:
            return rest_of(client)
        except TimeoutError:
            client.sendall(more)
    raise AssertionError("the server waits for ever")


def cuts(server: LiveServer, reason: str) -> float:
    return metric(server.get("/metrics").text, "pipeserve_cut_connections_total", reason=reason)


def test_connection_that_says_nothing_ends_without_a_word(impatient_server: LiveServer) -> None:
    """It may have been opened for later: its client has not asked for anything."""
    before = cuts(impatient_server, "head")
    with impatient_server.connect() as client:
        assert rest_of(client) == b""
    assert cuts(impatient_server, "head") == before + 1


@pytest.mark.parametrize(
    ("begun", "more"),
    [(b"POST / HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"a"), (b"P", b""), (b"\r\n", b"\r\n")],
    ids=["header", "method", "line ends"],
)
def test_head_that_drips_is_answered_408(impatient_server: LiveServer, begun: bytes, more: bytes) -> None:
    """However far it came; each byte is not a new chance."""
    before = cuts(impatient_server, "head")
    with impatient_server.connect() as client:
        answer = drip(client, begun, more)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), answer
    assert b'"error_type":"request_timeout"' in answer
    assert cuts(impatient_server, "head") == before + 1


def test_body_that_drips_is_answered_408(impatient_server: LiveServer) -> None:
    """And the fleet hears nothing of it."""
    impatient_server.fleet.reset()
    before = cuts(impatient_server, "body")
    with impatient_server.connect() as client:
        answer = drip(client, (HEAD % 1000).encode() + b'{"inputs": "')
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), answer
    assert cuts(impatient_server, "body") == before + 1
    assert impatient_server.fleet.jobs == []


def test_body_that_moves_may_take_longer(impatient_server: LiveServer) -> None:
    """A second for each KiB."""
    body = b'{"inputs": "' + b"a" * 4000 + b'"}'
    with impatient_server.connect() as client:
        client.sendall((HEAD % len(body)).encode())
        began_at = time.monotonic()
        for start in range(0, len(body), 500):
            time.sleep(PAUSE_S)
            client.sendall(body[start : start + 500])
        assert time.monotonic() - began_at > LIMIT_S
        assert client.recv(2**16).startswith(b"HTTP/1.1 200 OK\r\n")


def test_body_that_is_refused_early_may_still_come(impatient_server: LiveServer) -> None:
    """All of it is read and dropped, so that its client gets to see why; the connection goes on."""
    request = (HEAD % len(BODY)).encode() + BODY
    with impatient_server.connect() as client:
        client.sendall(b"POST /v1/no-such-task HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        assert client.recv(2**16).startswith(b"HTTP/1.1 404 Not Found\r\n")
        client.sendall(b"a" * 1_000_000 + request)
        assert client.recv(2**16).startswith(b"HTTP/1.1 200 OK\r\n")


def test_answered_connection_waits_for_its_next_request(impatient_server: LiveServer) -> None:
    """Longer than for the rest of one; and a request that is being computed is nobody's delay."""
    request = (HEAD % len(BODY)).encode() + BODY
    with impatient_server.connect() as client:
        for _ in range(2):
            client.sendall(request)
            assert client.recv(2**16).startswith(b"HTTP/1.1 200 OK\r\n")
            time.sleep(LIMIT_S * 2)


def test_answer_that_nobody_reads_is_dropped(
    impatient_server: LiveServer, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    """Its connection is reset: what waits in memory is not kept for a client that does not come."""
    before = cuts(impatient_server, "reading")
    body = b'{"inputs": [' + b",".join([b'"a"'] * 150_000) + b"]}"
    with impatient_server.connect() as client:
        client.sendall((HEAD % len(body)).encode() + body)
        wait_until(lambda: cuts(impatient_server, "reading") == before + 1)
        with pytest.raises(ConnectionResetError):
            rest_of(client)


def test_slow_reader_that_reads_gets_all_of_it(impatient_server: LiveServer) -> None:
    """It takes several times the limit, and never stands still."""
    body = b'{"inputs": [' + b",".join([b'"a"'] * 150_000) + b"]}"
    num_bytes = 0
    with impatient_server.connect() as client:
        client.sendall((HEAD % len(body)).encode() + body)
        began_at = time.monotonic()
        while num_bytes < 2**20 * 8:
            num_bytes += len(client.recv(2**20))
            time.sleep(PAUSE_S)
        assert time.monotonic() - began_at > LIMIT_S


def test_connections_beyond_the_limit_are_answered_503(impatient_server: LiveServer) -> None:
    """Those that are there go on, and when others have gone there is room again."""
    request = (HEAD % len(BODY)).encode() + BODY
    before = cuts(impatient_server, "too_many")
    with impatient_server.connect() as first:
        first.sendall(request)
        assert first.recv(2**16).startswith(b"HTTP/1.1 200 OK\r\n")
        with ExitStack() as stack:
            others = [stack.enter_context(impatient_server.connect()) for _ in range(MAX_CONNECTIONS)]
            refused = rest_of(others[-1])
            assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"), refused
            assert b"retry-after: 1\r\n" in refused
            first.sendall(request)
            assert first.recv(2**16).startswith(b"HTTP/1.1 200 OK\r\n")
    assert cuts(impatient_server, "too_many") > before
    with impatient_server.connect() as later:
        later.sendall(request)
        assert later.recv(2**16).startswith(b"HTTP/1.1 200 OK\r\n")
