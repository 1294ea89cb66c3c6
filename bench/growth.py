"""How the server grows: with concurrency, with the length of texts, with models, with replicas; and at half its peak.

all-MiniLM-L6-v2's embeddings. What grows is one thing at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.contestants import EMBEDDING
from bench.many import minilm_copies
from bench.processes import (
    REPOSITORY,
    THREADS,
    free_port,
    load,
    running,
    say,
    serve_command,
    wait_until_up,
    write_catalog,
)
from bench.workload import TEXTS, copy_minilm, sized_texts, write_lines

CONCURRENCIES = tuple(2**power for power in range(11))
TOKENS = tuple(2**power for power in range(3, 10))
MODELS = (1, 2, 5, 10, 20, 30)
REPLICAS = (1, 2)
BUSY = 32
"""Concurrency while another thing grows."""

Curve = list[dict[str, Any]]


@contextmanager
def serving(scratch: Path, entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The URL of ours, without the route of a model."""
    port = free_port()
    shared = {"task": EMBEDDING, "threads": THREADS, "preload": True}
    catalog = write_catalog(scratch, [{**shared, **entry} for entry in entries])
    with running(serve_command(catalog, port)) as process:
        wait_until_up(port, "/readyz", 120.0, process)
        yield f"http://127.0.0.1:{port}/v1/{EMBEDDING}"


def measure(scratch: Path, seconds: float, *, is_quick: bool) -> dict[str, Any]:
    model = copy_minilm(REPOSITORY / ".cache" / "bench" / "minilm-512", max_tokens=512)
    entry = {"id": "bench", "model": str(model)}
    found: dict[str, Curve] = {}
    with serving(scratch, [entry]) as url:
        load(url, write_lines(scratch / "warm.jsonl", [{"inputs": "warm"}]), 8, min(seconds, 2.0))  # it is loaded
        found["tokens"] = _tokens(url, scratch, seconds)
        found["concurrency"] = _concurrency(url, scratch, seconds, CONCURRENCIES[:: 2 if is_quick else 1])
    found["models"] = _models(scratch, seconds, MODELS[:: 2 if is_quick else 1] + MODELS[-1:] * is_quick)
    found["replicas"] = _replicas(scratch, seconds, entry)
    return {"curves": found}


def _point(url: str, bodies: Path, concurrency: int, seconds: float, name: str, value: int) -> dict[str, Any]:
    found = load(url, bodies, concurrency, seconds)
    say(
        f"  {name} {value}: {found['requests_per_s']:.1f} requests/s, p50 {found['p50_ms']:.1f} ms,"
        f" p99 {found['p99_ms']:.1f} ms, {found['num_failed']} failed {found['first_failure']}"
    )
    return {**found, name: value}


def _concurrency(url: str, scratch: Path, seconds: float, values: Sequence[int]) -> Curve:
    texts = [text for kind in ("mixed", "short") for text in TEXTS[kind]()]
    bodies = write_lines(scratch / "concurrency.jsonl", [{"inputs": text} for text in texts])
    return [_point(url, bodies, value, seconds, "concurrency", value) for value in values]


def _tokens(url: str, scratch: Path, seconds: float) -> Curve:
    curve = []
    for value in TOKENS:
        texts = sized_texts(value - 2, 0)  # two tokens stand at the ends
        bodies = write_lines(scratch / f"tokens-{value}.jsonl", [{"inputs": text} for text in texts])
        curve.append(_point(url, bodies, 8, seconds, "tokens", value))
    return curve


def _models(scratch: Path, seconds: float, values: Sequence[int]) -> Curve:
    """All of them loaded, wanted in turn."""
    folders, texts = minilm_copies(max(values)), TEXTS["mixed"]()
    curve = []
    for value in values:
        ids = [f"model-{index}" for index in range(value)]
        entries = [{"id": one, "model": str(folder)} for one, folder in zip(ids, folders, strict=False)]
        lines = [{"model": ids[at % value], "inputs": text} for at, text in enumerate(texts)]
        bodies = write_lines(scratch / f"models-{value}.jsonl", lines)
        with serving(scratch, entries) as url:
            load(url, bodies, BUSY, min(seconds, 2.0))  # all are loaded
            curve.append(_point(url, bodies, BUSY, seconds, "models", value))
    return curve


def _replicas(scratch: Path, seconds: float, entry: dict[str, Any]) -> Curve:
    bodies = write_lines(scratch / "replicas.jsonl", [{"inputs": text} for text in TEXTS["mixed"]()])
    curve = []
    for value in REPLICAS:
        with serving(scratch, [{**entry, "replicas": value}]) as url:
            load(url, bodies, BUSY, min(seconds, 2.0))
            curve.append(_point(url, bodies, BUSY, seconds, "replicas", value))
    return curve


def measure_half_load(model: Path, scratch: Path, seconds: float) -> dict[str, Any]:
    """rows: by kind of texts, the peak of a closed loop and what an open loop sees at half of it."""
    rows = []
    with serving(scratch, [{"id": "bench", "model": str(model)}]) as url:
        for kind in ("short", "mixed"):
            bodies = write_lines(scratch / f"half-{kind}.jsonl", [{"inputs": text} for text in TEXTS[kind]()])
            load(url, bodies, 8, min(seconds, 2.0))
            peak = max(load(url, bodies, n, seconds)["requests_per_s"] for n in (32, 128))
            found = load(url, bodies, 1, 2 * seconds, rate=peak / 2)
            rows.append({"texts": kind, "peak_requests_per_s": peak, **found})
            say(
                f"  {kind}: peak {peak:.1f} requests/s; at {peak / 2:.1f} p50 {found['p50_ms']:.1f} ms,"
                f" p99 {found['p99_ms']:.1f} ms ({found['p99_ms'] / found['p50_ms']:.1f} times)"
            )
    return {"rows": rows}
