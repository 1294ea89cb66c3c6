"""`python -m bench.overload`: more requests than can be answered. How long those take that are let in, against those at
capacity, and how fast the others are refused.

The capacity is what a closed loop gets of a server that refuses nobody. Then requests come to one with `queue.max_wait`
at a constant rate, whatever the answers do, at 1, 2 and 10 times of that. A polite client asks beside the flood with a
key of its own, one request at a time. The model is of BERT-base's size: ten times its capacity is no more than the API
process and the client can do, whose shares of the CPU are told.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from app.access.key_file import hash_of
from bench.processes import (
    REPOSITORY,
    THREADS,
    cpu_s,
    free_port,
    load,
    running,
    say,
    serve_command,
    wait_until_up,
    write_catalog,
)
from bench.workload import TEXTS, build_bert_base, write_bodies

TASK = "text-classification"
TIMES = (1, 2, 10)
MAX_BATCH = 16  # a CPU computes more of them no faster, and all wait for the last
FLOOD, POLITE = "flood", "polite"


@contextmanager
def serving(
    scratch: Path, bodies: Path, queue: Mapping[str, Any], *arguments: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL, and the API process. Each client's key is its name, and nobody else's. arguments: more of `serve`'s."""
    port = free_port()
    entry = {
        "id": "bench",
        "task": TASK,
        "model": str(build_bert_base(REPOSITORY / ".cache" / "bench" / "bert-base")),
        "threads": THREADS,
        "pinned": True,
        "batch": {"max_items": MAX_BATCH},
        "queue": dict(queue),
    }
    keys = scratch / "keys.yaml"
    made = [{"name": name, "hash": hash_of(secret_of(name))} for name in (FLOOD, POLITE)]
    keys.write_text(yaml.safe_dump({"keys": made}))
    command = [*serve_command(write_catalog(scratch, [entry]), port), "--keys-file", str(keys), *arguments]
    with running(command) as process:
        wait_until_up(port, "/readyz", 120.0, process)
        url = f"http://127.0.0.1:{port}/v1/{TASK}"
        load(url, bodies, 8, 5.0, key=secret_of(FLOOD))  # it is loaded and warm
        yield url, process


def secret_of(name: str) -> str:
    return f"pipeserve-the-secret-of-{name}-for-this-benchmark"


def measure(url: str, server: subprocess.Popen[bytes], bodies: Path, rate: float, seconds: float) -> dict[str, Any]:
    """A flood at this rate, measured after a few seconds of it, with a polite client beside it."""
    load(url, bodies, 1, min(seconds, 5.0), rate=rate, key=secret_of(FLOOD))
    began = cpu_s(server.pid)
    with ThreadPoolExecutor(1) as pool:
        polite = pool.submit(load, url, bodies, 1, seconds, key=secret_of(POLITE))
        flood = load(url, bodies, 1, seconds, rate=rate, key=secret_of(FLOOD))
        return {**flood, "api_cpu": (cpu_s(server.pid) - began) / seconds, "polite": polite.result()}


def run(max_wait: str, texts: str, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        bodies = write_bodies(scratch / "bodies.jsonl", TEXTS[texts]())
        with serving(scratch, bodies, {}) as (url, _):
            capacity = float(load(url, bodies, 4 * MAX_BATCH, seconds, key=secret_of(FLOOD))["requests_per_s"])
        with serving(scratch, bodies, {"max_wait": max_wait}) as (url, server):
            say(f"{texts} texts, queue.max_wait {max_wait}, {seconds:g} s a row; capacity: {capacity:.1f} requests/s")
            say()
            say(HEAD)
            say("|" + "---|" * (HEAD.count("|") - 1))
            at_capacity: float | None = None
            for times in TIMES:
                found = measure(url, server, bodies, capacity * times, seconds)
                at_capacity = at_capacity or found["p99_ms"]
                say(row_of(times, found, at_capacity))


HEAD = (
    "| times the capacity | answered/s | p50 ms | p99 ms | p99 against at capacity | refused | 429 p50 ms | 429 p99 ms"
    " | polite client's p99 ms, its failures | API process's CPU | client's CPU |"
)


def row_of(times: int, found: dict[str, Any], at_capacity_ms: float) -> str:
    polite = found["polite"]
    share = found["num_refused"] / max(1, found["num_refused"] + found["num_answered"])
    cells = [
        f"{times}",
        f"{found['requests_per_s']:.1f}",
        f"{found['p50_ms']:.0f}",
        f"{found['p99_ms']:.0f}",
        f"{found['p99_ms'] / at_capacity_ms:.2f}",
        f"{share:.0%}",
        f"{found['refused_p50_ms']:.1f}",
        f"{found['refused_p99_ms']:.1f}",
        f"{polite['p99_ms']:.0f}, {polite['num_failed']}",
        f"{found['api_cpu']:.2f}",
        f"{found['client_cpu']:.2f}",
    ]
    others = found["num_failed"] - found["num_refused"]
    return f"| {' | '.join(cells)} |" + (f" {others} failed otherwise: {found['first_failure']}" if others else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-wait", default="1s", help="of the model; not below the time of one full batch")
    parser.add_argument("--texts", choices=sorted(TEXTS), default="short")
    parser.add_argument("--seconds", type=float, default=50.0, help="of each row")
    options = parser.parse_args()
    run(options.max_wait, options.texts, options.seconds)


if __name__ == "__main__":
    main()
