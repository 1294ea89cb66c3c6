"""Forwards of the same rows by each backend in turn: `make bench-backends`.

`python -m bench.backends [--models minilm bert-base] [--threads 1] [--rounds 9]`. Each round computes every row size
once with every backend, so that a busy moment of the machine is everybody's; figures are medians. CPU ms is what the
process computed, which a neighbour changes less than the time on the clock. Exports are made once, under `.cache`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from app.catalog import ModelSpec
from app.runtime.loading import load_model
from bench.workload import WORDS, build_bert_base
from demo.training import minilm_folder

CACHE = Path(".cache/bench")
MODELS: dict[str, tuple[str, Callable[[], Path]]] = {
    "minilm": ("feature-extraction", minilm_folder),
    "bert-base": ("text-classification", lambda: build_bert_base(CACHE / "bert-base")),
}
BACKENDS: dict[str, dict[str, str]] = {
    "torch": {},
    "onnx": {"backend": "onnx"},
    "onnx int8": {"backend": "onnx", "quantization": "int8"},
    "openvino": {"backend": "openvino"},
}
SIZES = [(rows, words) for words in (12, 126) for rows in (1, 8, 32)]


@dataclass
class Timed:
    forward: Callable[[list[Any]], Any]
    items: dict[tuple[int, int], list[Any]]
    difference: float | None
    clock_ms: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    cpu_ms: dict[tuple[int, int], list[float]] = field(default_factory=dict)

    def compute(self, size: tuple[int, int]) -> Any:
        clock, cpu = time.perf_counter(), time.process_time()
        output = self.forward(self.items[size])
        self.cpu_ms.setdefault(size, []).append((time.process_time() - cpu) * 1000)
        self.clock_ms.setdefault(size, []).append((time.perf_counter() - clock) * 1000)
        return output


def load(task: str, folder: Path, keys: dict[str, str], threads: int) -> Timed:
    spec = ModelSpec(id="bench", model=str(folder.resolve()), tasks=(task,), device="cpu", **keys)
    model = load_model(spec, num_threads=threads, progress=lambda progress: None, cache_dir=CACHE)
    stages = model.stages(task)
    source = random.Random(0)
    items: dict[tuple[int, int], list[Any]] = {}
    for rows, words in SIZES:
        texts = [" ".join(source.choices(WORDS, k=words)) for _ in range(rows)]
        items[rows, words] = [item for one in stages.prepare(texts, {}) for item in one]
    return Timed(lambda chosen: list(stages.forward(chosen)), items, model.largest_difference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    for name in options.models:
        task, folder = MODELS[name]
        timed = {one: load(task, folder(), keys, options.threads) for one, keys in BACKENDS.items()}
        outputs: dict[str, dict[tuple[int, int], Any]] = {one: {} for one in timed}
        for _ in range(options.rounds + 1):
            for size in SIZES:
                for one, contender in timed.items():
                    outputs[one][size] = contender.compute(size)
        report(name, timed, outputs, options.threads)


def report(name: str, timed: dict[str, Timed], outputs: dict[str, Any], threads: int) -> None:
    """The first round warms up and is left out."""
    shown = " | ".join(f"{rows} × {words}" for rows, words in SIZES)
    print(f"\n{name}, {threads} thread(s): ms per batch of rows × words (CPU ms)\n")
    print(f"| backend | {shown} | largest difference | least cosine |\n|---{'|---' * (len(SIZES) + 2)}|")
    for one, contender in timed.items():
        cells = [f"{_median(contender.clock_ms[size])} ({_median(contender.cpu_ms[size])})" for size in SIZES]
        pairs = [pair for size in SIZES for pair in zip(outputs[one][size], outputs["torch"][size], strict=True)]
        cosine = min(_cosine(*pair) for pair in pairs)
        difference = "" if contender.difference is None else f"{contender.difference:.1e}"
        print(f"| {one} | {' | '.join(cells)} | {difference} | {cosine:.5f} |")


def _median(rounds: list[float]) -> str:
    return f"{statistics.median(rounds[1:]):.0f}"


def _cosine(one: Any, other: Any) -> float:
    a, b = np.asarray(one).ravel(), np.asarray(other).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


if __name__ == "__main__":
    main()
