"""What the server costs: a model that computes nothing, against a route of FastAPI that computes nothing.

CPU is that of the API process alone, for each request. The client is wrk where it is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.load import has_wrk
from bench.processes import cpu_s, free_port, load, running, say, serve_command, wait_until_up, write_catalog
from bench.workload import TEXTS, write_bodies

CONCURRENCIES = (1, 32)
HANDLER = """
class EndpointHandler:
    def __init__(self, path=""):
        pass

    def __call__(self, data):
        return [{"label": "POSITIVE", "score": 0.75}, {"label": "NEGATIVE", "score": 0.25}]
"""


def measure(scratch: Path, seconds: float) -> dict[str, Any]:
    folder = scratch / "no-op"
    folder.mkdir(exist_ok=True)
    (folder / "handler.py").write_text(HANDLER)
    entry = {"id": "no-op", "task": "text-classification", "model": str(folder), "trust_remote_code": True}
    catalog = write_catalog(scratch, [{**entry, "preload": True}])
    bodies = write_bodies(scratch / "no-op.jsonl", TEXTS["short"]())
    port = free_port()
    servers: list[tuple[str, Sequence[str], str, str]] = [
        ("pipeserve", serve_command(catalog, port), "/readyz", "/v1/text-classification"),
        ("FastAPI", [sys.executable, "-m", "bench.rivals.noop", "--port", str(port)], "/docs", "/predict"),
        ("FastAPI, lean", [sys.executable, "-m", "bench.rivals.noop", "--port", str(port)], "/docs", "/lean"),
    ]
    cells = []
    for name, command, health, path in servers:
        with running(command) as process:
            wait_until_up(port, health, 120.0, process)
            url = f"http://127.0.0.1:{port}{path}"
            load(url, bodies, 8, 2.0)  # loaded, and warm
            for concurrency in CONCURRENCIES:
                before = cpu_s(process.pid)
                found = load(url, bodies, concurrency, seconds, with_wrk=has_wrk())
                cpu_us = 1e6 * (cpu_s(process.pid) - before) / max(1, found["num_answered"])
                cells.append({"server": name, **found, "cpu_us_per_request": cpu_us})
                say(f"  {name} at {concurrency}: {found['requests_per_s']:.0f} requests/s, {cpu_us:.0f} µs of CPU each")
    return {"cells": cells}
