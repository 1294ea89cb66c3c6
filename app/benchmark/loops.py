"""Requests at a server: in a closed loop, where each client waits for its answer, or in an open one, at a rate."""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.benchmark.connection import BROKEN, Connection
from app.benchmark.tally import Figures, Stream, Tally, figures_of

_PAUSE_S = 0.01
"""After a connection that broke: a server that refuses connections is not asked in a tight loop."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long requests are sent: for so many seconds, or until so many were."""

    seconds: float = math.inf
    num_requests: float = math.inf


async def ask(connection: Connection, request: bytes, due_s: float, tally: Tally, *, streams: bool = False) -> None:
    """due_s: when the latency begins, on the clock of time.perf_counter(). streams: the answer is a stream of events,
    one for each token."""
    sent_s = time.perf_counter()
    stream = Stream() if streams else None
    try:
        status, body = await connection.exchange(request, None if stream is None else stream.hear)
    except BROKEN as error:
        await connection.close()
        tally.fail(f"{type(error).__name__}: {error}")
        await asyncio.sleep(_PAUSE_S)
        return
    if b" 200 " not in status:
        if b" 429 " in status:
            tally.refused_s.append(time.perf_counter() - sent_s)
        tally.fail(f"{status.decode(errors='replace')} {body[:200].decode(errors='replace')}")
    elif stream is not None:
        tally.take(stream, due_s)
    else:
        tally.latencies_s.append(time.perf_counter() - due_s)


async def run_closed_loop(
    url: str, requests: Sequence[bytes], concurrency: int, effort: Effort, *, streams: bool = False
) -> Figures:
    """requests: whole messages, each client's from another one on."""
    tally, num_sent = Tally(), 0
    spacing = max(1, len(requests) // concurrency)

    async def client(index: int) -> None:
        nonlocal num_sent
        connection = Connection(url)
        while (now := time.perf_counter()) < until and num_sent < effort.num_requests:
            num_sent += 1
            await ask(connection, requests[index % len(requests)], now, tally, streams=streams)
            index += 1
        await connection.close()

    began, cpu = time.perf_counter(), cpu_s(resource.RUSAGE_SELF)
    until = began + effort.seconds
    await asyncio.gather(*(client(number * spacing) for number in range(concurrency)))
    elapsed_s = time.perf_counter() - began
    used_s = cpu_s(resource.RUSAGE_SELF) - cpu
    return figures_of(tally, elapsed_s, used_s, concurrency=concurrency, streams=streams)


async def run_open_loop(
    url: str, requests: Sequence[bytes], rate: float, effort: Effort, *, streams: bool = False
) -> Figures:
    """So many requests a second whatever the answers do, each latency counted from when its request was due.
    Connections are kept and used again; one more is opened where all are busy."""
    tally, idle, asked = Tally(), [Connection(url)], set()

    async def one(request: bytes, due_s: float) -> None:
        connection = idle.pop() if idle else Connection(url)
        await ask(connection, request, due_s, tally, streams=streams)
        idle.append(connection)

    began, cpu = time.perf_counter(), cpu_s(resource.RUSAGE_SELF)
    for index in range(max(1, int(min(rate * effort.seconds, effort.num_requests)))):
        due_s = began + index / rate
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        task = asyncio.ensure_future(one(requests[index % len(requests)], due_s))
        asked.add(task)
        task.add_done_callback(asked.discard)
    await asyncio.gather(*asked)
    elapsed_s = time.perf_counter() - began
    for connection in idle:
        await connection.close()
    return figures_of(tally, elapsed_s, cpu_s(resource.RUSAGE_SELF) - cpu, rate=rate, streams=streams)


def cpu_s(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def raise_file_limit() -> None:
    """A socket is a file, and 1,024 clients are more than the usual limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
