"""`make bench`: the server against the offline ceiling and against a plain FastAPI server, in one run.

Prints Markdown tables of ratios; `--quick` measures shorter. Compute threads are the same for everybody: what the
server grants a single busy model, which is one core less than there are (at least one).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import (
    REPOSITORY,
    THREADS,
    free_port,
    last_line,
    load,
    post,
    running,
    say,
    serve_command,
    wait_until_up,
    write_catalog,
)
from bench.workload import build_bert_base, mixed_texts, write_bodies

CONCURRENCIES = (1, 8, 32, 128)


@dataclass(frozen=True)
class Contest:
    name: str
    task: str
    folder: Path
    num_texts: int = 256  # the same ones for everybody; fewer where a forward is slow


def measure_offline(contest: Contest, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.offline", contest.task, str(contest.folder), "--threads", str(THREADS)]
    command += ["--seconds", str(seconds), "--num-texts", str(contest.num_texts)]
    return last_line(command)


def measure_url(url: str, bodies: Path, seconds: float) -> dict[int, dict[str, Any]]:
    load(url, bodies, 8, min(2.0, seconds))  # warm
    return {concurrency: load(url, bodies, concurrency, seconds) for concurrency in CONCURRENCIES}


def report(contest: Contest, offline: dict[str, Any], ours: dict[int, Any], plain: dict[int, Any]) -> None:
    ceiling, alone_ms = offline["best_texts_per_s"], offline["batch_1_p50_ms"]
    say(f"\n### {contest.name}: {contest.task}\n")
    say(
        f"Offline, {THREADS} thread(s): `pipeline()`, batch 1, {offline['batch_1_texts_per_s']:.1f} texts/s"
        f" (p50 {alone_ms:.2f} ms); a loop by hand, sorted by length, best batch size {offline['best_batch_size']}:"
        f" {ceiling:.1f} texts/s (the ceiling; its bare forward alone: {offline['bare_texts_per_s']:.1f}).\n"
    )
    columns = ("concurrent", "pipeserve req/s", "p50 ms", "p99 ms", "of the ceiling", "plain FastAPI req/s", "p50 ms")
    columns += ("p99 ms", "ratio", "client CPU", "failed")
    say(f"| {' | '.join(columns)} |")
    say("|---" * len(columns) + "|")
    for n in CONCURRENCIES:
        a, b = ours[n], plain[n]
        mine, theirs = a["requests_per_s"], b["requests_per_s"]
        cells = [f"{n}", f"{mine:.1f}", f"{a['p50_ms']:.1f}", f"{a['p99_ms']:.1f}", f"{mine / ceiling:.2f}"]
        cells += [f"{theirs:.1f}", f"{b['p50_ms']:.1f}", f"{b['p99_ms']:.1f}", f"{mine / theirs:.2f}"]
        cells += [f"{a['client_cpu']:.2f}", f"{a['num_failed']} + {b['num_failed']}"]
        say(f"| {' | '.join(cells)} |")
    say(f"\nAdded latency at 1 concurrent over the bare pipeline call: {ours[1]['p50_ms'] - alone_ms:+.2f} ms (p50).")


async def livez_latencies_ms(port: int, seconds: float) -> list[float]:
    """A probe every 5 ms over one keep-alive connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        found.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)
    writer.close()
    return sorted(found)


def first_answer_s(port: int, contest: Contest) -> float:
    began = time.perf_counter()
    body = json.dumps({"inputs": "hello", "model": contest.name}).encode()
    status, answer = post(port, f"/v1/{contest.task}", body)
    if status != 200:
        raise RuntimeError(f"{status}: {answer[:300]!r}")
    return time.perf_counter() - began


def report_start(catalog: Path, contests: list[Contest], bodies: Path, seconds: float) -> None:
    """Start-up, first answers cold and warm, and `/livez` while a model loads and while others run."""
    small, big = contests
    port = free_port()
    with running(serve_command(catalog, port)):
        ready_s = wait_until_up(port, "/readyz")
        cold_s = first_answer_s(port, small)
        post(port, f"/v1/models/{small.name}/unload", b"")
        warm_s = first_answer_s(port, small)
        background = subprocess.Popen(
            [sys.executable, "-m", "bench.load", f"http://127.0.0.1:{port}/v1/{small.task}", "--bodies", str(bodies)]
            + ["--concurrency", "32", "--seconds", str(seconds)],
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
        )
        loading = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from bench.run import *; first_answer_s({port}, Contest({big.name!r}, {big.task!r}, Path()))",
            ],
            cwd=REPOSITORY,
        )
        probes = asyncio.run(livez_latencies_ms(port, seconds))
        background.wait()
        loading.wait()
    say("\n### Starting\n")
    say("| what | measured |")
    say("|---|---|")
    say(f"| server accepts requests after | {ready_s:.2f} s |")
    say(f"| first answer of all-MiniLM, right after the start (forkserver cold) | {cold_s:.2f} s |")
    say(f"| first answer of all-MiniLM, lazily loaded, forkserver warm | {warm_s:.2f} s |")
    say(
        f"| `/livez` under load while BERT-base loads | p50 {probes[len(probes) // 2]:.2f} ms, "
        f"p99 {probes[int(len(probes) * 0.99)]:.2f} ms, worst {probes[-1]:.2f} ms ({len(probes)} probes) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short measurements, for a look while working")
    options = parser.parse_args()
    from demo.training import minilm_folder  # torch: not for the probes, which import this module as well

    seconds = 3.0 if options.quick else 10.0
    cache = REPOSITORY / ".cache" / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    contests = [
        Contest("all-MiniLM-L6-v2", "feature-extraction", minilm_folder()),
        Contest("bert-base-sized", "text-classification", build_bert_base(cache / "bert-base"), 128),
    ]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "fastapi"))
    command = f"python -m bench.run{' --quick' if options.quick else ''}"
    say(f"`{command}` on {os.cpu_count()} cores, {platform.machine()}; {versions}; float32.")
    say(f"Everybody has {THREADS} compute thread(s).")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        entries = [{"id": contest.name, "task": contest.task, "model": str(contest.folder)} for contest in contests]
        catalog = write_catalog(folder, entries)
        for contest in contests:
            bodies = write_bodies(folder / f"{contest.name}.jsonl", mixed_texts()[: contest.num_texts])
            offline = measure_offline(contest, seconds)
            port = free_port()
            with running(serve_command(catalog, port)):
                wait_until_up(port, "/readyz")
                ours = measure_url(f"http://127.0.0.1:{port}/v1/{contest.task}", bodies, seconds)
            port = free_port()
            plain_command = [sys.executable, "-m", "bench.plain_fastapi", contest.task, str(contest.folder)]
            with running([*plain_command, "--port", str(port), "--threads", str(THREADS)]):
                wait_until_up(port, "/docs")
                plain = measure_url(f"http://127.0.0.1:{port}/predict", bodies, seconds)
            report(contest, offline, ours, plain)
        report_start(catalog, contests, bodies, seconds)


if __name__ == "__main__":
    main()
