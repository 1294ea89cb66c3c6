"""What Ray Serve costs a request: the same models by a server of one machine and by Ray Serve on it, by turns.

`python -m bench.ray_cost [--seconds 10] [--rounds 2]` prints a table. CPU is that of all processes of a server together
(Ray's own included, but for what they use when nothing is asked, which is said apart), for each answered request.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.overhead import HANDLER
from bench.processes import (
    THREADS,
    Unavailable,
    free_port,
    load,
    running,
    say,
    serve_command,
    tree_cpu_s,
    tree_memory_bytes,
    wait_until_up,
    write_catalog,
)
from bench.workload import TEXTS, copy_minilm, write_bodies

SERVERS: Mapping[str, tuple[list[str], dict[str, str]]] = {
    "one machine": ([], {}),
    "Ray Serve": (["--ray"], {}),
    "Ray Serve, HAProxy": (["--ray"], {"RAY_SERVE_ENABLE_HA_PROXY": "1"}),
    "Ray Serve, throughput": (["--ray"], {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}),
}
"""Arguments and variables of each."""
_STORE = {"RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION": "0.02", "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
MODELS = ("no-op", "all-MiniLM-L6-v2")
_PATHS = {"no-op": "/v1/text-classification", "all-MiniLM-L6-v2": "/v1/feature-extraction"}
CONCURRENCIES = (1, 8, 32)
_IDLE_S = 5.0


def measure(scratch: Path, seconds: float, rounds: int, names: Sequence[str]) -> list[dict[str, Any]]:
    catalog = _catalog(scratch)
    bodies = write_bodies(scratch / "bodies.jsonl", TEXTS["short"]())
    cells: list[dict[str, Any]] = []
    for number in range(rounds):
        for name in names:
            arguments, variables = SERVERS[name]
            try:
                cells += [
                    {"round": number, **cell}
                    for cell in _measure_one(name, arguments, variables, catalog, bodies, seconds)
                ]
            except (Unavailable, TimeoutError) as error:
                say(f"  {name}: {error}")
    return cells


def _catalog(scratch: Path) -> Path:
    no_op, minilm = scratch / "no-op", scratch / "minilm"
    no_op.mkdir()
    (no_op / "handler.py").write_text(HANDLER)
    copy_minilm(minilm)
    always = {"pinned": True, "preload": True, "threads": THREADS}
    return write_catalog(
        scratch,
        [
            {"id": MODELS[0], "task": "text-classification", "model": str(no_op), "trust_remote_code": True, **always},
            {"id": MODELS[1], "task": "feature-extraction", "model": str(minilm), **always},
        ],
    )


def _measure_one(
    name: str, arguments: list[str], variables: dict[str, str], catalog: Path, bodies: Path, seconds: float
) -> list[dict[str, Any]]:
    port, cells = free_port(), []
    began = time.perf_counter()
    with running([*serve_command(catalog, port), *arguments], environment=_STORE | variables) as process:
        wait_until_up(port, "/readyz", 300.0, process)
        for model in MODELS:  # loaded, and warm
            with contextlib.suppress(RuntimeError):
                load(f"http://127.0.0.1:{port}{_PATHS[model]}", bodies, 8, 3.0)
        start_s = time.perf_counter() - began
        before = tree_cpu_s(process.pid)
        time.sleep(_IDLE_S)
        idle = (tree_cpu_s(process.pid) - before) / _IDLE_S
        say(f"  {name}: up and warm after {start_s:.0f} s, {tree_memory_bytes(process.pid) / 2**20:.0f} MiB,"
            f" {1000 * idle:.0f} ms of CPU a second when idle")  # fmt: skip
        for model in MODELS:
            for concurrency in CONCURRENCIES:
                url = f"http://127.0.0.1:{port}{_PATHS[model]}"
                before, at = tree_cpu_s(process.pid), time.perf_counter()
                found = load(url, bodies, concurrency, seconds, with_wrk=False)
                elapsed = time.perf_counter() - at
                used = tree_cpu_s(process.pid) - before - idle * elapsed
                cpu_ms = 1000 * used / max(1, found["num_answered"])
                cells.append({"server": name, "model": model, "concurrency": concurrency, **found, "cpu_ms": cpu_ms})
                say(f"  {name}, {model} at {concurrency}: {_figures(found)}, {cpu_ms:.2f} ms of CPU each")
    return cells


def _figures(found: dict[str, Any]) -> str:
    latencies = f"p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms"
    return f"{found['requests_per_s']:.0f} requests/s, {latencies}, {found['num_failed']} failed"


def table(cells: list[dict[str, Any]]) -> str:
    """The best round of each: other programs on the machine only take away."""
    best: dict[tuple[str, int, str], dict[str, Any]] = {}
    for cell in cells:
        key = cell["model"], cell["concurrency"], cell["server"]
        if key not in best or cell["requests_per_s"] > best[key]["requests_per_s"]:
            best[key] = cell
    lines = [
        "| model | concurrent | server | requests/s | p50 ms | p99 ms | CPU ms a request | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = list(SERVERS)
    for (model, concurrency, server), cell in sorted(
        best.items(), key=lambda one: (MODELS.index(one[0][0]), one[0][1], order.index(one[0][2]))
    ):
        lines.append(
            f"| {model} | {concurrency} | {server} | {cell['requests_per_s']:.0f} | {cell['p50_ms']:.1f} |"
            f" {cell['p99_ms']:.1f} | {cell['cpu_ms']:.2f} | {cell['num_failed']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=list(SERVERS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ray-cost-") as scratch:
        say(table(measure(Path(scratch), arguments.seconds, arguments.rounds, arguments.servers)))


if __name__ == "__main__":
    main()
