"""BentoML: `bentoml serve bench.rivals.bentoml:EncoderService --port P`, its settings in the environment.

BENCH_TASK, BENCH_FOLDER, BENCH_THREADS, BENCH_MAX_BATCH_SIZE. The latency bound is above every answer's time here:
BentoML refuses what it expects to exceed it.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml

from bench.encoder import Encoder


@bentoml.service(
    workers=1,
    traffic={"timeout": 600, "max_concurrency": 4096},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class EncoderService:
    def __init__(self) -> None:
        self.encode = Encoder(os.environ["BENCH_TASK"], os.environ["BENCH_FOLDER"], int(os.environ["BENCH_THREADS"]))

    @bentoml.api(
        route="/predict",
        batchable=True,
        max_batch_size=int(os.environ["BENCH_MAX_BATCH_SIZE"]),
        max_latency_ms=600_000,
    )
    def predict(self, inputs: list[str]) -> list[Any]:
        return [row if isinstance(row, list) else row.tolist() for row in self.encode(inputs)]
