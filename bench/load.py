"""A closed-loop load generator over raw keep-alive sockets: as little CPU as Python can, and it says how much.

`python -m bench.load URL --concurrency N --seconds S --bodies FILE` prints one JSON line. It is run as a process of
its own so that its CPU time is known and its GIL is nobody else's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Tally:
    """latencies_s: of answers with status 200; others are only counted."""

    latencies_s: list[float] = field(default_factory=list)
    num_failed: int = 0
    first_failure: str = ""


def encode_requests(url: str, bodies: list[bytes]) -> list[bytes]:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[bytes, bytes]:
    """One request and its answer: the status line and the body (every server here sends Content-Length)."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    body = await reader.readexactly(int(length.split(b":")[1]))
    return head[: head.index(b"\r\n")], body


async def run_client(url: str, requests: list[bytes], start: int, until: float, tally: Tally) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**24)
    index = start
    while time.perf_counter() < until:
        began = time.perf_counter()
        status, body = await exchange(reader, writer, requests[index % len(requests)])
        if b" 200 " in status:
            tally.latencies_s.append(time.perf_counter() - began)
        else:
            tally.num_failed += 1
            tally.first_failure = tally.first_failure or f"{status.decode()} {body[:200].decode(errors='replace')}"
        index += 1
    writer.close()


async def run_load(url: str, bodies: list[bytes], concurrency: int, seconds: float) -> dict[str, object]:
    """Latencies in milliseconds, CPU as a share of one core."""
    requests = encode_requests(url, bodies)
    tally = Tally()
    began = time.perf_counter()
    spacing = max(1, len(requests) // concurrency)
    clients = [run_client(url, requests, i * spacing, began + seconds, tally) for i in range(concurrency)]
    await asyncio.gather(*clients)
    elapsed_s = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    latencies = sorted(tally.latencies_s) or [float("nan")]

    def percentile_ms(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(share * len(latencies)))] * 1000

    return {
        "concurrency": concurrency,
        "requests_per_s": len(tally.latencies_s) / elapsed_s,
        "p50_ms": percentile_ms(0.50),
        "p99_ms": percentile_ms(0.99),
        "num_answered": len(tally.latencies_s),
        "num_failed": tally.num_failed,
        "first_failure": tally.first_failure,
        "client_cpu": (usage.ru_utime + usage.ru_stime) / elapsed_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--bodies", type=Path, required=True, help="a file with one JSON body per line")
    parser.add_argument("--base64", action="store_true", help="each line is a raw body in base64")
    options = parser.parse_args()
    bodies = options.bodies.read_bytes().splitlines()
    if options.base64:
        bodies = [base64.b64decode(line) for line in bodies]
    result = asyncio.run(run_load(options.url, bodies, options.concurrency, options.seconds))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
