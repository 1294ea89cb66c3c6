"""The ceiling: transformers' `pipeline()` in one process over the same texts, no HTTP. Prints one JSON line.

`python -m bench.offline TASK FOLDER --threads N`. At batch size 1 (texts as they come), and at its best batch size
(texts sorted by length, which is the best that an offline loop can do).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from bench.workload import mixed_texts

BATCH_SIZES = (8, 16, 32, 64)


def latencies_ms(call: Any, texts: list[str], seconds: float) -> list[float]:
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        call(texts[len(found) % len(texts)])
        found.append((time.perf_counter() - began) * 1000)
    return found


def texts_per_s(call: Any, texts: list[str], batch_size: int) -> float:
    began = time.perf_counter()
    call(texts, batch_size=batch_size)
    return len(texts) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--num-texts", type=int, default=256)
    options = parser.parse_args()

    import torch
    from transformers import pipeline

    torch.set_num_threads(options.threads)
    # Token vectors stay tensors: turning each padded row into Python lists would make the ceiling look low.
    keywords = {"return_tensors": True} if options.task == "feature-extraction" else {}
    pipe: Any = pipeline(options.task, model=options.folder, device="cpu")

    def call(texts: Any, **more: Any) -> Any:
        return pipe(texts, **keywords, **more)

    texts = mixed_texts()[: options.num_texts]
    call(texts[:8], batch_size=8)
    alone = sorted(latencies_ms(call, texts, options.seconds))
    by_length = sorted(texts, key=len)
    batched = {size: texts_per_s(call, by_length, size) for size in BATCH_SIZES}
    best = max(batched, key=lambda size: batched[size])
    result = {
        "batch_1_p50_ms": alone[len(alone) // 2],
        "batch_1_texts_per_s": 1000 * len(alone) / sum(alone),
        "best_batch_size": best,
        "best_texts_per_s": batched[best],
        "threads": options.threads,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
