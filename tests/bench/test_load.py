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

from bench.load import (
    Connection,
    Tally,
    ask,
    encode_requests,
    has_wrk,
    percentile,
    run_closed_loop,
    run_open_loop,
    run_wrk,
)

Answer = Callable[[bytes], bytes]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nyes\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 5\r\n\r\nlater"


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
        found = await run_closed_loop(url, [b"{}", b"[]"], concurrency=2, seconds=0.2)
    assert found["num_answered"] + found["num_failed"] == len(came)  # type: ignore[operator]


async def test_open_loop_sends_without_waiting_for_answers() -> None:
    """Ten requests fall due before the first is answered, and all of them have come by then."""
    async with server([OK], wait_s=0.5) as (url, came):
        found = await run_open_loop(url, [b"{}"], rate=100, seconds=0.1)
        assert len(came) == 10
        assert max(came) - min(came) < 0.5
    assert (found["num_answered"], found["num_refused"]) == (10, 0)
    assert found["p50_ms"] >= 500  # type: ignore[operator]


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
    """The same keys, so that one table takes both."""
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text(json.dumps({"inputs": "hello"}) + "\n")
    async with server([OK]) as (url, _):
        by_wrk = await asyncio.to_thread(run_wrk, url, bodies, 2, 1.0)
        by_python = await run_closed_loop(url, [b"{}"], 2, 0.1)
    assert by_wrk.keys() == by_python.keys()
    assert by_wrk["num_failed"] == 0
    assert by_wrk["num_answered"]
