"""Results as `make bench-all` keeps them, small: written by hand, no measurement."""

from __future__ import annotations

from typing import Any

ABOUT = {
    "date": "2026-01-02 03:04 UTC",
    "machine": "2 cores, a processor (avx2)",
    "versions": "torch 2.13.0",
    "threads": 1,
    "is_quick": True,
    "seconds": 2.0,
    "load": 0.1,
}


def cell(
    texts: str, concurrency: int, texts_per_s: float, client_batch: int = 1, p50_ms: float = 10.0
) -> dict[str, Any]:
    return {
        "texts": texts,
        "client_batch": client_batch,
        "concurrency": concurrency,
        "client": "python",
        "requests_per_s": texts_per_s / client_batch,
        "texts_per_s": texts_per_s,
        "p50_ms": p50_ms,
        "p99_ms": 2 * p50_ms,
        "num_answered": 100,
        "num_failed": 0,
        "first_failure": "",
        "client_cpu": 0.05,
        "server_cpu": 1.2,
    }


def server(name: str, rate: float, *, is_framework: bool = False) -> dict[str, Any]:
    cells = [cell(texts, n, rate) for texts in ("short", "mixed") for n in (1, 32, 128)]
    return {
        "server": name,
        "note": "",
        "is_framework": is_framework,
        "tried": [{"settings": "a", "texts_per_s": rate}, {"settings": "b", "reason": "it ended"}],
        "settings": "a",
        "version": "1.0",
        "command": f"{name} serve",
        "agreement": 1.0,
        "cells": [*cells, cell("mixed", 1, rate, client_batch=32)],
    }


def absent(name: str) -> dict[str, Any]:
    reason = "it could not be installed: ERROR: no | matching distribution"
    return {"server": name, "note": "", "is_framework": True, "tried": [], "cells": [], "reason": reason}


def ceiling(rate: float) -> dict[str, Any]:
    return {
        "batch_1_p50_ms": 9.5,
        "batch_1_texts_per_s": rate / 2,
        "best_batch_size": 16,
        "best_texts_per_s": rate,
        "bare_texts_per_s": rate * 1.1,
        "threads": 1,
    }


def encoders(*servers: dict[str, Any], ceiling_rate: float = 100.0) -> dict[str, Any]:
    return {
        "about": ABOUT,
        "model": "a model",
        "task": "feature-extraction",
        "ceilings": {kind: ceiling(ceiling_rate) for kind in ("short", "mixed")},
        "servers": list(servers),
        "tune": {"reason": "No such command"},
    }


def point(name: str, value: int) -> dict[str, Any]:
    return {**cell("mixed", 1, 100.0), name: value}


def results() -> dict[str, Any]:
    """Every part."""
    overhead = [
        {**cell("short", n, 1000.0), "server": name, "cpu_us_per_request": cpu}
        for n in (1, 32)
        for name, cpu in (("pipeserve", 130.0), ("FastAPI", 100.0))
    ]
    many = {**cell("mixed", 8, 90.0), "server": "pipeserve", "what": "embeddings", "num_models": 30, "num_resident": 5}
    gone = {"server": "transformers serve", "what": "generated texts", "reason": "it ended with 1"}
    half = {**cell("short", 1, 50.0), "peak_requests_per_s": 100.0, "rate": 50.0}
    minilm = encoders(server("pipeserve", 99.0), server("infinity", 60.0), server("LitServe", 40.0, is_framework=True))
    return {
        "parts": {
            "encoders-minilm": minilm,
            "encoders-bert": encoders(server("pipeserve", 90.0), absent("MLServer")),
            "overhead": {"about": ABOUT, "cells": overhead},
            "many-models": {
                "about": ABOUT,
                "transformers": "5.23.0",
                "rows": [{**many, "loads": 9, "evictions": 4, "memory_bytes": 2**30}, gone],
            },
            "growth": {
                "about": ABOUT,
                "curves": {
                    "concurrency": [point("concurrency", 1), point("concurrency", 1024)],
                    "replicas": [point("replicas", 1), point("replicas", 2)],
                },
            },
            "half-load": {"about": ABOUT, "rows": [half]},
        }
    }
