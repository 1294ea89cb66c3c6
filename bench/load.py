"""A load generator over raw keep-alive sockets: as little CPU as Python can, and it says how much.

`python -m bench.load URL --concurrency N --seconds S --bodies FILE` prints one JSON line. Closed loop: each client
sends its next request when the last is answered. `--rate R`: open loop, R requests a second whatever the answers do,
each latency counted from when its request was due. `--wrk`: the closed loop by wrk, written in C, for rates at which
Python would be measured. It is run as a process of its own, so that its CPU time is known and its GIL nobody else's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import math
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

WRK_SCRIPT = Path(__file__).with_name("wrk.lua")
_MAX_HEAD_BYTES = 2**24


@dataclass
class Tally:
    """latencies_s: of answers with status 200; others are counted as failed. refused_s: how long those with status 429
    took, from when they were sent."""

    latencies_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    num_failed: int = 0
    first_failure: str = ""

    def fail(self, reason: str) -> None:
        self.num_failed += 1
        self.first_failure = self.first_failure or reason


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, without interpolation; NaN where there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def encode_requests(url: str, bodies: list[bytes], key: str | None = None) -> list[bytes]:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]


class Connection:
    """One keep-alive connection, opened when it is needed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, request: bytes) -> tuple[bytes, bytes]:
        """The status line and the body. Raises OSError or EOFError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=_MAX_HEAD_BYTES)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        found = head.find(b"\r\ncontent-length:")
        if found >= 0:
            body = await reader.readexactly(int(head[found + 17 : head.index(b"\r\n", found + 17)]))
        else:
            body = await _read_chunks(reader)
        return head[: head.index(b"\r\n")], body

    async def close(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readline()
    return b"".join(parts)


async def ask(connection: Connection, request: bytes, due_s: float, tally: Tally) -> None:
    """due_s: when the latency begins, on the clock of time.perf_counter()."""
    sent_s = time.perf_counter()
    try:
        status, body = await connection.exchange(request)
    except (OSError, EOFError) as error:
        await connection.close()
        tally.fail(f"{type(error).__name__}: {error}")
        await asyncio.sleep(0.01)  # a server that refuses connections is not asked in a tight loop
        return
    if b" 200 " in status:
        tally.latencies_s.append(time.perf_counter() - due_s)
    else:
        if b" 429 " in status:
            tally.refused_s.append(time.perf_counter() - sent_s)
        tally.fail(f"{status.decode()} {body[:200].decode(errors='replace')}")


async def run_client(url: str, requests: list[bytes], start: int, until: float, tally: Tally) -> None:
    connection, index = Connection(url), start
    while (now := time.perf_counter()) < until:
        await ask(connection, requests[index % len(requests)], now, tally)
        index += 1
    await connection.close()


async def run_closed_loop(
    url: str, bodies: list[bytes], concurrency: int, seconds: float, key: str | None = None
) -> dict[str, object]:
    requests = encode_requests(url, bodies, key)
    tally = Tally()
    began, cpu = time.perf_counter(), cpu_s(resource.RUSAGE_SELF)
    spacing = max(1, len(requests) // concurrency)
    clients = [run_client(url, requests, i * spacing, began + seconds, tally) for i in range(concurrency)]
    await asyncio.gather(*clients)
    elapsed_s = time.perf_counter() - began
    return {"concurrency": concurrency, **summary(tally, elapsed_s, cpu_s(resource.RUSAGE_SELF) - cpu)}


async def run_open_loop(
    url: str, bodies: list[bytes], rate: float, seconds: float, key: str | None = None
) -> dict[str, object]:
    """Connections are kept and used again; one more is opened where all are busy."""
    requests = encode_requests(url, bodies, key)
    tally, idle, asked = Tally(), [Connection(url)], set()

    async def one(request: bytes, due_s: float) -> None:
        connection = idle.pop() if idle else Connection(url)
        await ask(connection, request, due_s, tally)
        idle.append(connection)

    began, cpu = time.perf_counter(), cpu_s(resource.RUSAGE_SELF)
    for index in range(max(1, int(rate * seconds))):
        due_s = began + index / rate
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        task = asyncio.ensure_future(one(requests[index % len(requests)], due_s))
        asked.add(task)
        task.add_done_callback(asked.discard)
    await asyncio.gather(*asked)
    elapsed_s = time.perf_counter() - began
    for connection in idle:
        await connection.close()
    refused = sorted(tally.refused_s)
    return {
        "rate": rate,
        **summary(tally, elapsed_s, cpu_s(resource.RUSAGE_SELF) - cpu),
        "num_refused": len(refused),
        "refused_p50_ms": percentile(refused, 0.50) * 1000,
        "refused_p99_ms": percentile(refused, 0.99) * 1000,
    }


def cpu_s(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def summary(tally: Tally, elapsed_s: float, used_cpu_s: float) -> dict[str, object]:
    """Latencies in milliseconds, CPU as a share of one core."""
    latencies = sorted(tally.latencies_s)
    return {
        "client": "python",
        "requests_per_s": len(latencies) / elapsed_s,
        "p50_ms": percentile(latencies, 0.50) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
        "num_answered": len(latencies),
        "num_failed": tally.num_failed,
        "first_failure": tally.first_failure,
        "client_cpu": used_cpu_s / elapsed_s,
    }


def run_wrk(url: str, bodies: Path, concurrency: int, seconds: float) -> dict[str, object]:
    """What is not answered at the end is left out: not for answers that take as long as the measurement."""
    command = ["wrk", "-t1", f"-c{concurrency}", f"-d{max(1, round(seconds))}s", "--timeout", "60s"]
    command += ["-s", str(WRK_SCRIPT), url, "--", str(bodies)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(printed.strip().splitlines()[-1])
    elapsed_s = found["duration_us"] / 1e6
    num_answered = found["num_requests"] - found["num_bad_status"]
    num_failed = found["num_bad_status"] + found["num_broken"]
    return {
        "client": "wrk",
        "concurrency": concurrency,
        "requests_per_s": num_answered / elapsed_s,
        "p50_ms": found["p50_us"] / 1000,
        "p99_ms": found["p99_us"] / 1000,
        "num_answered": num_answered,
        "num_failed": num_failed,
        "first_failure": "wrk does not tell" if num_failed else "",
        "client_cpu": cpu_s(resource.RUSAGE_CHILDREN) / elapsed_s,
    }


def raise_file_limit() -> None:
    """A socket is a file, and 1,024 clients are more than the usual limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rate", type=float, help="requests a second, at a constant rate")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--bodies", type=Path, required=True, help="a file with one JSON body per line")
    parser.add_argument("--base64", action="store_true", help="each line is a raw body in base64")
    parser.add_argument("--key", help="an API key")
    parser.add_argument("--wrk", action="store_true", help="the closed loop by wrk")
    options = parser.parse_args()
    raise_file_limit()
    bodies = options.bodies.read_bytes().splitlines()
    if options.base64:
        bodies = [base64.b64decode(line) for line in bodies]
    if options.wrk:
        result = run_wrk(options.url, options.bodies, options.concurrency, options.seconds)
    elif options.rate:
        result = asyncio.run(run_open_loop(options.url, bodies, options.rate, options.seconds, options.key))
    else:
        concurrency, seconds = options.concurrency, options.seconds
        result = asyncio.run(run_closed_loop(options.url, bodies, concurrency, seconds, options.key))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
