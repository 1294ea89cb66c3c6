"""`python -m bench.beside`: how much longer live requests take while a batch (`/v1/batches`) runs on the same model.

Live requests of one key come at a constant rate, a share of the capacity: alone; beside a batch of another key, which
has always 128 lines in the server; and, to compare, beside 128 requests at a time that this other key sends itself, at
the same priority as the live ones. In turn, as often as there are rounds: a row's ratios are to the first of its round.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai import OpenAI

from app.batches.runner import MAX_AT_ONCE
from app.worker.batch_queue import CALM_S
from bench.overload import FLOOD, MAX_BATCH, POLITE, TASK, secret_of, serving
from bench.processes import load, say
from bench.workload import TEXTS, write_bodies, write_lines

_SETTLE_S = 3.0


class Batches:
    """Of the key `FLOOD`, all of the same file."""

    def __init__(self, url: str, texts: Sequence[str], num_lines: int, scratch: Path) -> None:
        """num_lines: more than can be answered while anybody measures."""
        self._client = OpenAI(base_url=f"{url.removesuffix(f'/{TASK}')}", api_key=secret_of(FLOOD))
        lines = (
            {"custom_id": str(n), "method": "POST", "url": f"/v1/{TASK}", "body": {"inputs": texts[n % len(texts)]}}
            for n in range(num_lines)
        )
        path = write_lines(scratch / "lines.jsonl", lines)
        self._file = self._client.files.create(file=path, purpose="batch")

    @contextmanager
    def running(self) -> Iterator[str]:
        """The id of one that is under way. Cancelled, and gone from the queue, when the block ends."""
        window: Any = {"endpoint": f"/v1/{TASK}", "completion_window": "24h"}
        batch = self._client.batches.create(input_file_id=self._file.id, **window)
        while not self.num_answered(batch.id):
            time.sleep(0.1)
        try:
            yield batch.id
        finally:
            self._client.batches.cancel(batch.id)
            while self._client.batches.retrieve(batch.id).status != "cancelled":
                time.sleep(0.1)

    def num_answered(self, batch_id: str) -> int:
        counts = self._client.batches.retrieve(batch_id).request_counts
        return counts.completed if counts is not None else 0


class Measured:
    """One server, and how its live requests fare."""

    def __init__(self, url: str, bodies: Path, batches: Batches, seconds: float) -> None:
        self._url, self._bodies, self._batches, self._seconds = url, bodies, batches, seconds

    def batch_by_itself(self) -> float:
        """Lines a second."""
        with self._batches.running() as batch_id:
            time.sleep(CALM_S + _SETTLE_S)
            before, began = self._batches.num_answered(batch_id), time.perf_counter()
            time.sleep(self._seconds)
            return (self._batches.num_answered(batch_id) - before) / (time.perf_counter() - began)

    def alone(self, rate: float) -> dict[str, Any]:
        return {**self._live(rate), "others_per_s": 0.0}

    def beside_batch(self, rate: float) -> dict[str, Any]:
        with self._batches.running() as batch_id:
            time.sleep(_SETTLE_S)
            before, began = self._batches.num_answered(batch_id), time.perf_counter()
            found = self._live(rate)
            num_answered = self._batches.num_answered(batch_id) - before
            return {**found, "others_per_s": num_answered / (time.perf_counter() - began)}

    def beside_normal(self, rate: float) -> dict[str, Any]:
        with ThreadPoolExecutor(1) as pool:
            longer_s = self._seconds + 2 * _SETTLE_S
            others = pool.submit(load, self._url, self._bodies, MAX_AT_ONCE, longer_s, key=secret_of(FLOOD))
            time.sleep(_SETTLE_S)
            found = self._live(rate)
            return {**found, "others_per_s": others.result()["requests_per_s"]}

    def _live(self, rate: float) -> dict[str, Any]:
        return load(self._url, self._bodies, 1, self._seconds, rate=rate, key=secret_of(POLITE))


HEAD = "| live/s | beside | answered/s | p50 ms | p99 ms | p50 against alone | p99 against alone | others/s | failed |"


def row_of(rate: float, beside: str, found: dict[str, Any], alone: dict[str, Any]) -> str:
    cells = [
        f"{rate:.1f}",
        beside,
        f"{found['requests_per_s']:.1f}",
        f"{found['p50_ms']:.0f}",
        f"{found['p99_ms']:.0f}",
        f"{found['p50_ms'] / alone['p50_ms']:.2f}",
        f"{found['p99_ms'] / alone['p99_ms']:.2f}",
        f"{found['others_per_s']:.1f}",
        f"{found['num_failed']}",
    ]
    return f"| {' | '.join(cells)} |"


def run(texts: Sequence[str], shares: Sequence[float], seconds: float, num_rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        bodies = write_bodies(scratch / "bodies.jsonl", list(texts))
        with serving(scratch, bodies, {}, "--files-dir", str(scratch / "files")) as (url, _):
            capacity = float(load(url, bodies, 4 * MAX_BATCH, seconds, key=secret_of(FLOOD))["requests_per_s"])
            batches = Batches(url, texts, round(capacity * (seconds + 60) * 2), scratch)
            measured = Measured(url, bodies, batches, seconds)
            by_itself = measured.batch_by_itself()
            say(f"{seconds:g} s a row; capacity {capacity:.1f} requests/s, of a batch by itself {by_itself:.1f}")
            say(f"load of the machine before: {os.getloadavg()[0]:.1f}")
            say()
            say(HEAD)
            say("|" + "---|" * (HEAD.count("|") - 1))
            for rate in (share * capacity for _ in range(num_rounds) for share in shares):
                alone = measured.alone(rate)
                say(row_of(rate, "nothing", alone, alone))
                say(row_of(rate, "a batch", measured.beside_batch(rate), alone))
                say(row_of(rate, f"{MAX_AT_ONCE} at normal priority", measured.beside_normal(rate), alone))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=json.loads, default=[0.2, 0.5], help="of the capacity; [0.2, 0.5]")
    parser.add_argument("--texts", choices=sorted(TEXTS), default="short")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each row")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    run(TEXTS[options.texts](), options.shares, options.seconds, options.rounds)


if __name__ == "__main__":
    main()
