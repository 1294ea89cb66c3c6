"""The client: what it counts, and that it waits for nobody in the open loop."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.benchmark.connection import Connection, encode_requests
from app.benchmark.loops import Effort, ask, run_closed_loop, run_open_loop
from app.benchmark.tally import Tally, percentile
from bench.load import has_wrk, run_wrk

Answer = Callable[[bytes], bytes]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nyes\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 5\r\n\r\nlater"


def chunked(*parts: bytes) -> bytes:
    """One answer, a chunk each."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


@asynccontextmanager
async def server(answers: list[bytes], wait_s: float = 0.0) -> AsyncIterator[tuple[str, list[float]]]:
    """Answers in turn, each connection's requests one by one; tells when each came."""
    came: list[float] = []
    over, num_open = asyncio.Semaphore(0), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num_open
        num_open += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                came.append(time.perf_counter())
                await asyncio.sleep(wait_s)
                writer.write(answers[(len(came) - 1) % len(answers)])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            over.release()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/ask?a=1", came
    finally:
        listening.close()
        for _ in range(num_open):
            await over.acquire()


async def test_answers_and_failures_are_counted_apart() -> None:
    """What is not 200 has no latency; an answer in chunks is an answer; the connection is used again."""
    tally = Tally()
    async with server([OK, BUSY, CHUNKED]) as (url, came):
        connection = Connection(url)
        (request,) = encode_requests(url, [b"{}"])
        for _ in range(6):
            await ask(connection, request, time.perf_counter(), tally)
        await connection.close()
    assert (len(came), len(tally.latencies_s), tally.num_failed) == (6, 4, 2)
    assert len(tally.refused_s) == 2 and all(seconds > 0 for seconds in tally.refused_s)
    assert tally.first_failure == "http/1.1 429 too many requests later"


async def test_refused_connections_are_failures() -> None:
    """Nobody listens: the request has failed, and the next one tries again."""
    tally = Tally()
    async with server([OK]) as (url, _):
        pass
    connection = Connection(url)
    for _ in range(2):
        await ask(connection, encode_requests(url, [b"{}"])[0], time.perf_counter(), tally)
    assert (tally.latencies_s, tally.num_failed) == ([], 2)
    assert tally.first_failure


async def test_closed_loop_counts_what_the_server_saw() -> None:
    """Every request that was sent, whatever its answer."""
    async with server([OK, BUSY]) as (url, came):
        found = await run_closed_loop(url, encode_requests(url, [b"{}", b"[]"]), 2, Effort(seconds=0.2))
    assert found.num_answered + found.num_failed == len(came)


async def test_closed_loop_ends_with_its_last_request() -> None:
    """Where so many are to be sent: of all clients together."""
    async with server([OK], wait_s=0.01) as (url, came):
        found = await run_closed_loop(url, encode_requests(url, [b"{}"]), 4, Effort(num_requests=10))
    assert (found.num_answered, len(came), found.concurrency) == (10, 10, 4)


async def test_open_loop_sends_without_waiting_for_answers() -> None:
    """Ten requests fall due before the first is answered, and all of them have come by then."""
    async with server([OK], wait_s=0.5) as (url, came):
        found = await run_open_loop(url, encode_requests(url, [b"{}"]), 100, Effort(seconds=0.1))
        assert len(came) == 10
        assert max(came) - min(came) < 0.5
    assert (found.num_answered, found.num_refused) == (10, 0)
    assert found.p50_ms >= 500


async def test_tokens_of_a_stream_are_counted_and_its_error_is_a_failure() -> None:
    """However the events are cut into chunks; comments that keep a connection open are no tokens."""
    events = b"data:{1}\n\n: still there\n\ndata:{2}\n\ndata:{3}\n\n"
    stream = chunked(events[:5], events[5:30], events[30:])
    broken = chunked(b"data:{1}\n\n", b'data:{"error":"no memory"}\n\n')
    async with server([stream, broken, OK]) as (url, _):
        found = await run_closed_loop(url, encode_requests(url, [b"{}"]), 1, Effort(num_requests=3), streams=True)
    assert (found.num_answered, found.num_failed) == (1, 2)
    assert "no memory" in found.first_failure
    assert found.stream is not None and found.stream.num_tokens == 3
    assert 0 < found.stream.ttft_p50_ms <= found.p50_ms and found.stream.tpot_p50_ms >= 0


async def test_connection_that_the_server_ended_is_opened_again() -> None:
    """As it said it would, or while nobody asked: no request is lost by it."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    tally = Tally()
    async with server([closing]) as (url, came):
        connection = Connection(url)
        for _ in range(3):
            await ask(connection, encode_requests(url, [b"{}"])[0], time.perf_counter(), tally)
        await connection.close()
    assert (len(came), len(tally.latencies_s), tally.first_failure) == (3, 3, "")


async def test_what_is_no_http_is_a_failure() -> None:
    """And the next request has a connection of its own."""
    tally = Tally()
    async with server([CHUNKED.replace(b"2\r\nok", b"two\r\nok"), OK]) as (url, _):
        connection = Connection(url)
        for _ in range(2):
            await ask(connection, encode_requests(url, [b"{}"])[0], time.perf_counter(), tally)
        await connection.close()
    assert (len(tally.latencies_s), tally.num_failed) == (1, 1)


def test_requests_are_whole_messages() -> None:
    """The query goes along, and the length is the body's in bytes."""
    (request,) = encode_requests("http://127.0.0.1:80/v1/x?y=1", ["ä".encode()])
    assert request.startswith(b"POST /v1/x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n")
    assert request.endswith(b"Content-Length: 2\r\n\r\n\xc3\xa4")


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([1.0], 0.99, 1.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 3.0), ([float(i) for i in range(100)], 0.99, 99.0)],
)
def test_percentile_is_a_value_that_was_measured(values: list[float], share: float, expected: float) -> None:
    """Nothing is interpolated."""
    assert percentile(values, share) == expected


def test_percentile_of_nothing_is_nan() -> None:
    """No answer, no latency."""
    assert math.isnan(percentile([], 0.5))


@pytest.mark.slow
@pytest.mark.skipif(not has_wrk(), reason="wrk is not installed")
async def test_wrk_tells_what_the_python_client_tells(tmp_path: Path) -> None:
    """The same figures, so that one table takes both."""
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text(json.dumps({"inputs": "hello"}) + "\n")
    async with server([OK]) as (url, _):
        by_wrk = await asyncio.to_thread(run_wrk, url, bodies, 2, 1.0)
        by_python = await run_closed_loop(url, encode_requests(url, [b"{}"]), 2, Effort(seconds=0.1))
    assert by_wrk.num_failed == by_python.num_failed == 0
    assert by_wrk.num_answered and by_wrk.p50_ms <= by_wrk.p90_ms <= by_wrk.p99_ms
