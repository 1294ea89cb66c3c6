"""The ceilings: one process over the same texts, no HTTP. Prints one JSON line.

`python -m bench.offline TASK FOLDER --threads N`: transformers' `pipeline()` one text at a time, as they come; and, at
the best batch size, sorted by length, which is the best that an offline loop can do: tokenizer, forward and pooling
or softmax by hand, and the bare forward over the same batches, tokenized before.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.workload import TEXTS

BATCH_SIZES = (8, 16, 32, 64)


def latencies_ms(call: Callable[[str], Any], texts: list[str], seconds: float) -> list[float]:
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        call(texts[len(found) % len(texts)])
        found.append((time.perf_counter() - began) * 1000)
    return found


def per_s(call: Callable[[Any], Any], batches: Sequence[Any], num: int) -> float:
    began = time.perf_counter()
    for batch in batches:
        call(batch)
    return num / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--num-texts", type=int, default=256)
    parser.add_argument("--texts", choices=list(TEXTS), default="mixed")
    options = parser.parse_args()

    from transformers import pipeline

    from bench.encoder import Encoder

    encode = Encoder(options.task, options.folder, options.threads)
    # Token vectors stay tensors: turning each row into Python lists would make the pipeline look slow.
    keywords = {"return_tensors": True} if encode.is_embedding else {}
    pipe: Any = pipeline(options.task, model=encode.model, tokenizer=encode.tokenizer, device="cpu")

    texts = TEXTS[options.texts]()[: options.num_texts]
    encode(texts[:8])
    pipe(texts[0], **keywords)
    alone = sorted(latencies_ms(lambda text: pipe(text, **keywords), texts, options.seconds))
    by_length = sorted(texts, key=len)
    batches = {size: [by_length[at : at + size] for at in range(0, len(texts), size)] for size in BATCH_SIZES}
    loop = {size: per_s(encode, batches[size], len(texts)) for size in BATCH_SIZES if size <= len(texts)}
    best = max(loop, key=lambda size: loop[size])
    result = {
        "batch_1_p50_ms": alone[len(alone) // 2],
        "batch_1_texts_per_s": 1000 * len(alone) / sum(alone),
        "best_batch_size": best,
        "best_texts_per_s": loop[best],
        "bare_texts_per_s": per_s(encode.forward, [encode.collate(batch) for batch in batches[best]], len(texts)),
        "threads": options.threads,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
