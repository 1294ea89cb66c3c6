"""`make bench`: the server against the offline ceiling and against a plain FastAPI server, in one run.

Prints Markdown tables of ratios; `--quick` measures shorter. Compute threads are the same for everybody: what the
server grants a single busy model, which is one core less than there are (at least one).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import importlib.metadata
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.workload import build_bert_base, mixed_texts, write_bodies

CONCURRENCIES = (1, 8, 32, 128)
THREADS = max(1, (os.cpu_count() or 1) - 1)
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Contest:
    name: str
    task: str
    folder: Path
    num_texts: int = 256  # the same ones for everybody; fewer where a forward is slow


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str, timeout_s: float = 10.0) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def post(port: int, path: str, body: bytes, timeout_s: float = 120.0) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until_up(port: int, path: str, timeout_s: float = 120.0) -> float:
    """Seconds until it answered 200."""
    began = time.perf_counter()
    while time.perf_counter() - began < timeout_s:
        with contextlib.suppress(OSError):
            if get(port, path)[0] == 200:
                return time.perf_counter() - began
        time.sleep(0.02)
    raise TimeoutError(f"nothing answered {path} within {timeout_s} s")


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def last_line(command: list[str]) -> dict[str, Any]:
    """What a measuring process prints last: one line of JSON."""
    output = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def load(url: str, bodies: Path, concurrency: int, seconds: float, *, is_base64: bool = False) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.load", url, "--bodies", str(bodies)]
    command += ["--concurrency", str(concurrency), "--seconds", str(seconds)]
    return last_line(command + ["--base64"] * is_base64)


def measure_offline(contest: Contest, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.offline", contest.task, str(contest.folder), "--threads", str(THREADS)]
    command += ["--seconds", str(seconds), "--num-texts", str(contest.num_texts)]
    return last_line(command)


def measure_url(url: str, bodies: Path, seconds: float) -> dict[int, dict[str, Any]]:
    load(url, bodies, 8, min(2.0, seconds))  # warm
    return {concurrency: load(url, bodies, concurrency, seconds) for concurrency in CONCURRENCIES}


def serve_command(catalog: Path, port: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "app",
        "serve",
        "--models",
        str(catalog),
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]


def write_catalog(folder: Path, contests: list[Contest]) -> Path:
    entries = [{"id": contest.name, "task": contest.task, "model": str(contest.folder)} for contest in contests]
    path = folder / "models.yaml"
    path.write_text(json.dumps({"models": entries}))  # JSON is YAML
    return path


def report(contest: Contest, offline: dict[str, Any], ours: dict[int, Any], plain: dict[int, Any]) -> None:
    ceiling, alone_ms = offline["best_texts_per_s"], offline["batch_1_p50_ms"]
    say(f"\n### {contest.name}: {contest.task}\n")
    say(
        f"Offline `pipeline()`, {THREADS} thread(s): batch 1 {offline['batch_1_texts_per_s']:.1f} texts/s"
        f" (p50 {alone_ms:.2f} ms); sorted by length, best batch size {offline['best_batch_size']}:"
        f" {ceiling:.1f} texts/s (the ceiling).\n"
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
        catalog = write_catalog(folder, contests)
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
