"""`python -m bench.path`: what the way through the server costs, in time and in CPU, beside what it computes.

Closed loops of 1, 8, 32 and 128 clients on all-MiniLM-L6-v2 (short texts, and mixed lengths) and on a model that does
nothing, the latter against a FastAPI route that parses the same body and answers as much. For each: requests per
second, percentiles, the parts of a request as its headers tell them, and the CPU time per request of the API process
and of its children. The ceiling is the bare forward over the same texts, tokenized before and sorted by length, in a
process of its own before the servers start.

`--against FOLDER` measures a second checkout in turns with this one, `--rounds` times, and prints medians of both:
short runs in turns say more than a long one on a machine where others work. `--only noop,short,mixed` chooses.
`--traced` measures this checkout with traces as well, of all requests and of one in a hundred.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from app.benchmark.connection import encode_requests
from bench.processes import REPOSITORY, THREADS, free_port, post, say, wait_until_up
from bench.workload import TEXTS, write_bodies

CONCURRENCIES = (1, 8, 32, 128)
PARTS = ("queue", "prepare", "forward", "finish", "total")
BARE_BATCH_SIZES = (1, 8, 16, 32)
HANDLER = """
class EndpointHandler:
    def __init__(self, path):
        pass

    def __call__(self, body):
        return {"ok": True}
"""


@dataclass
class Sample:
    """One closed loop. CPU and parts are milliseconds per request."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    api_cpu_ms: float
    worker_cpu_ms: float
    parts_ms: dict[str, float] = field(default_factory=dict)
    batch_size: float = 1.0
    num_failed: int = 0


# Who is measured


@contextmanager
def server(tree: Path, catalog: Path, variables: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """A server of the checkout with these variables, its port and process id."""
    port = free_port()
    command = [sys.executable, "-m", "app", "serve", "--models", str(catalog), "--port", str(port)]
    with started([*command, "--log-level", "warning"], tree, variables) as process:
        wait_until_up(port, "/readyz")
        yield port, process.pid


@contextmanager
def started(
    command: Sequence[str], folder: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **variables}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def with_traces(stack: ExitStack) -> dict[str, dict[str, str]]:
    """Variables by name, for a collector that is started with them."""
    port = free_port()
    stack.enter_context(started([sys.executable, "-m", "bench.sink", "--port", str(port)], REPOSITORY))
    all_of_them = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    few = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    return {"traced": all_of_them, "traced 1 %": {**all_of_them, **few}}


def bare_texts_per_s(texts: list[str], folder: str, seconds: float) -> dict[int, float]:
    """Texts per second of the forward and the pooling alone, by batch size."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(THREADS)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    texts = sorted(texts[:256], key=lambda text: len(tokenizer.tokenize(text)))
    found = {}
    for size in BARE_BATCH_SIZES:
        chunks = [texts[start : start + size] for start in range(0, len(texts), size)]
        batches = [tokenizer(chunk, padding=True, return_tensors="pt") for chunk in chunks]
        with torch.inference_mode():
            model(**batches[0])
            began, num_texts = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                for batch in batches:
                    mask = batch["attention_mask"][..., None]
                    (model(**batch)[0] * mask).sum(1) / mask.sum(1)
                    num_texts += len(mask)
            found[size] = num_texts / (time.perf_counter() - began)
    return found


# Measuring


def cpu_s(pid: int) -> float:
    """What the threads of a process have computed: as utime + stime, but in nanoseconds and not in ticks."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def children_of(pid: int) -> list[int]:
    """Workers and forkserver."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def closed_loop(
    url: str, bodies: list[bytes], concurrency: int, seconds: float
) -> tuple[list[float], list[bytes]]:
    """Latencies in ms, and the answers' headers, of answers with status 200; others are missing."""
    parts, requests = urlsplit(url), encode_requests(url, bodies)
    latencies_ms: list[float] = []
    heads: list[bytes] = []
    until = time.perf_counter() + seconds

    async def client(index: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**22)
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(requests[index % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(header(head, b"content-length")))
            heads.append(head)
            if head.startswith(b"HTTP/1.1 200"):
                latencies_ms.append((time.perf_counter() - began) * 1000)
            index += 1
        writer.close()

    spacing = max(1, len(requests) // concurrency)
    await asyncio.gather(*(client(i * spacing) for i in range(concurrency)))
    return latencies_ms, heads


def header(head: bytes, name: bytes) -> float:
    found = head.lower().partition(b"\r\n" + name + b": ")[2]
    return float(found.partition(b"\r\n")[0]) if found else 0.0


def _mean_of(heads: list[bytes], name: str) -> float:
    return statistics.mean(header(head, name.encode()) for head in heads)


def measure(url: str, bodies: list[bytes], concurrency: int, seconds: float, pid: int) -> Sample:
    workers = children_of(pid)
    api_before, workers_before = cpu_s(pid), sum(map(cpu_s, workers))
    began = time.perf_counter()
    latencies, heads = asyncio.run(closed_loop(url, bodies, concurrency, seconds))
    elapsed_s = time.perf_counter() - began
    latencies.sort()
    count = len(latencies)
    return Sample(
        requests_per_s=count / elapsed_s,
        p50_ms=latencies[count // 2],
        p99_ms=latencies[min(count - 1, int(count * 0.99))],
        api_cpu_ms=(cpu_s(pid) - api_before) / count * 1000,
        worker_cpu_ms=(sum(map(cpu_s, workers)) - workers_before) / count * 1000,
        parts_ms={
            part: statistics.mean(header(head, b"x-%s-time" % part.encode()) for head in heads) for part in PARTS
        },
        batch_size=_mean_of(heads, "x-batch-size"),
        num_failed=len(heads) - count,
    )


def median_of(samples: list[Sample]) -> Sample:
    def middle(values: Sequence[float]) -> float:
        return statistics.median(values)

    return Sample(
        requests_per_s=middle([one.requests_per_s for one in samples]),
        p50_ms=middle([one.p50_ms for one in samples]),
        p99_ms=middle([one.p99_ms for one in samples]),
        api_cpu_ms=middle([one.api_cpu_ms for one in samples]),
        worker_cpu_ms=middle([one.worker_cpu_ms for one in samples]),
        parts_ms={part: middle([one.parts_ms[part] for one in samples]) for part in PARTS},
        batch_size=middle([one.batch_size for one in samples]),
        num_failed=sum(one.num_failed for one in samples),
    )


# The report


COLUMNS = ("concurrent", "who", "req/s", "of the ceiling", "p50 ms", "p99 ms", "API CPU ms", "worker CPU ms", "batch")
COLUMNS += tuple(f"{part} ms" for part in PARTS) + ("failed",)


def row(concurrency: int, who: str, one: Sample, ceiling: float) -> None:
    share = f"{one.requests_per_s / ceiling:.3f}" if ceiling else ""
    cells = [f"{concurrency}", who, f"{one.requests_per_s:.1f}", share, f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}"]
    cells += [f"{one.api_cpu_ms:.3f}", f"{one.worker_cpu_ms:.3f}", f"{one.batch_size:.1f}"]
    cells += [f"{one.parts_ms[part]:.2f}" for part in PARTS] + [f"{one.num_failed}"]
    say(f"| {' | '.join(cells)} |")


def report(
    contenders: dict[str, tuple[str, int]],
    bodies: list[bytes],
    concurrencies: Sequence[int],
    options: argparse.Namespace,
    ceiling: float = 0.0,
) -> None:
    """contenders: URL and process id by name; they take turns."""
    say(f"| {' | '.join(COLUMNS)} |")
    say("|---" * len(COLUMNS) + "|")
    for url, pid in contenders.values():
        measure(url, bodies, 8, 0.7, pid)  # warm
    for concurrency in concurrencies:
        samples: dict[str, list[Sample]] = {name: [] for name in contenders}
        for turn in range(options.rounds):
            order = list(contenders)
            for name in order if turn % 2 == 0 else reversed(order):
                url, pid = contenders[name]
                samples[name].append(measure(url, bodies, concurrency, options.seconds, pid))
        for name, measured in samples.items():
            row(concurrency, name, median_of(measured), ceiling)


def first_answer(url: str, body: bytes) -> None:
    """Have the model loaded."""
    parts = urlsplit(url)
    status, answer = post(parts.port or 80, parts.path, body)
    if status != 200:
        raise RuntimeError(f"{url} answered {status}: {answer[:300]!r}")


def write_catalog(folder: Path, minilm: Path) -> Path:
    (folder / "noop").mkdir()
    (folder / "noop" / "handler.py").write_text(HANDLER)
    (folder / "noop" / "config.json").write_text("{}")
    entries = [
        {"id": "minilm", "task": "feature-extraction", "model": str(minilm), "threads": THREADS},
        {"id": "noop", "model": str(folder / "noop"), "trust_remote_code": True},
    ]
    path = folder / "models.yaml"
    path.write_text(json.dumps({"models": entries}))  # JSON is YAML
    return path


def ceiling_of(texts: list[str], folder: Path, seconds: float) -> float:
    """In a process of its own."""
    call = f"bare_texts_per_s(json.load(sys.stdin), {str(folder)!r}, {seconds})"
    command = [sys.executable, "-c", f"from bench.path import *; print(json.dumps({call}))"]
    given = json.dumps(texts).encode()
    output = subprocess.run(command, cwd=REPOSITORY, input=given, check=True, capture_output=True).stdout
    found = {size: float(speed) for size, speed in json.loads(output.splitlines()[-1]).items()}
    say("Bare forward: " + ", ".join(f"{speed:.1f} texts/s in batches of {size}" for size, speed in found.items()))
    return max(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--traced", action="store_true", help="and this one with traces, in turns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", default="noop,short,mixed")
    parser.add_argument("--concurrency", default=",".join(map(str, CONCURRENCIES)))
    options = parser.parse_args()
    concurrencies = [int(one) for one in options.concurrency.split(",")]
    from demo.training import minilm_folder

    minilm = minilm_folder()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        chosen = {name: make()[:256] for name, make in TEXTS.items() if name in options.only.split(",")}
        ceilings = {name: ceiling_of(texts, minilm, options.seconds) for name, texts in chosen.items()}
        catalog = write_catalog(folder, minilm)
        who: dict[str, tuple[Path, Mapping[str, str]]] = {"here": (REPOSITORY, {})}
        if options.against:
            who["against"] = (options.against.resolve(), {})
        if options.traced:
            who |= {name: (REPOSITORY, variables) for name, variables in with_traces(stack).items()}
        ours = {name: stack.enter_context(server(tree, catalog, given)) for name, (tree, given) in who.items()}
        if "noop" in options.only:
            bodies = [b'{"inputs": "hello"}']
            port = free_port()
            command = [sys.executable, "-m", "bench.rivals.noop", "--port", str(port)]
            plain = stack.enter_context(started(command, REPOSITORY))
            wait_until_up(port, "/docs")
            contenders = {name: (f"http://127.0.0.1:{port}/models/noop", pid) for name, (port, pid) in ours.items()}
            for url, _ in contenders.values():
                first_answer(url, bodies[0])
            say("\n### A model that does nothing\n")
            report(
                contenders | {"no-op FastAPI": (f"http://127.0.0.1:{port}/lean", plain.pid)},
                bodies,
                concurrencies,
                options,
            )
        for name, texts in chosen.items():
            bodies = write_bodies(folder / f"{name}.jsonl", texts).read_bytes().splitlines()
            say(f"\n### all-MiniLM-L6-v2, {name}\n")
            path = "/v1/feature-extraction/minilm"
            contenders = {name: (f"http://127.0.0.1:{port}{path}", pid) for name, (port, pid) in ours.items()}
            for url, _ in contenders.values():
                first_answer(url, bodies[0])
            report(contenders, bodies, concurrencies, options, ceilings[name])


if __name__ == "__main__":
    main()
