"""`python -m bench.pages`: what `/ui` costs: the server's start, the first visit, memory, CPU of a request passed on.

Needs the extra `ui`. Of the one model that is declared nothing is ever loaded.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.processes import cpu_s, free_port, get, running, say, serve_command, wait_until_up, write_catalog

_PAGE, _FILE, _OWN = "/ui/", "/ui/look/pages.js", "/livez"
_MIB = 2**20


def start_s(catalog: Path, options: Sequence[str]) -> float:
    """From the command to the first answer."""
    port = free_port()
    began_at = time.perf_counter()
    with running([*serve_command(catalog, port), *options]) as process:
        wait_until_up(port, _OWN, process=process)
        return time.perf_counter() - began_at


def cpu_us(pid: int, port: int, path: str, num_requests: int) -> float:
    """Microseconds of CPU that the process spends on a request, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        before = cpu_s(pid)
        for _ in range(num_requests):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, f"{path}: {answer.status}"
        return (cpu_s(pid) - before) / num_requests * 1e6
    finally:
        connection.close()


def pages_process(pid: int) -> psutil.Process:
    return next(child for child in psutil.Process(pid).children() if "app.ui" in child.cmdline())


def measure_pages(catalog: Path, rounds: int, num_requests: int) -> None:
    port = free_port()
    with running(serve_command(catalog, port)) as process:
        wait_until_up(port, _OWN, process=process)
        say(f"the API process before the first visit: {_pss_mib(process.pid):.0f} MiB")
        say(f"first visit until the first page: {wait_until_up(port, _PAGE, process=process):.1f} s")
        began_at = time.perf_counter()
        get(port, _PAGE)
        say(f"the next: {(time.perf_counter() - began_at) * 1000:.0f} ms")
        pages = pages_process(process.pid)
        say(f"the pages' process: {_pss_mib(pages.pid):.0f} MiB; the API process now: {_pss_mib(process.pid):.0f} MiB")
        for path in (_OWN, _FILE):
            taken = [cpu_us(process.pid, port, path, num_requests) for _ in range(rounds)]
            say(f"CPU of the API process for GET {path}: {min(taken):.0f} µs (median {statistics.median(taken):.0f})")


def _pss_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_full_info().pss) / _MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        catalog = write_catalog(Path(name), [{"task": "fill-mask", "model": "acme/none"}])
        rows: dict[str, list[float]] = {"with the pages": [], "with --no-ui": []}
        for _ in range(options.rounds):
            for row, more in zip(rows, ([], ["--no-ui"]), strict=True):
                rows[row].append(start_s(catalog, more))
        for row, seconds in rows.items():
            say(f"start {row}: {min(seconds):.2f} s (median {statistics.median(seconds):.2f})")
        measure_pages(catalog, options.rounds, options.requests)


if __name__ == "__main__":
    main()
