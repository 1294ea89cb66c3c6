"""`python -m bench.scaling.measure`: the simulation's figures of this machine, as JSON for `inputs.json`.

Of two models, all-MiniLM-L6-v2 and a BERT-base-sized one: seconds of one forward by the number of short texts in it,
with one compute thread (`bench.encoder`: tokenizer, forward, and pooling or softmax); and, through the server, what
each takes of memory, and what a request for the unloaded model costs more than a warm one: fork, load and the worker's
first forward, with the files in the page cache. Of all repetitions the medians.

Seconds are those of the processor, of all processes involved: with one thread and nothing to wait for they are those of
the clock on a machine without neighbours, and neighbours do not change them much. `load_clock_s` is the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.many import memory_of
from bench.processes import (
    REPOSITORY,
    THREADS,
    free_port,
    get,
    post,
    running,
    say,
    serve_command,
    tree_cpu_s,
    wait_until_up,
    write_catalog,
)
from bench.workload import TEXTS, build_bert_base, copy_minilm

BATCHES = (1, 2, 4, 8, 16, 32)
_CACHE = REPOSITORY / ".cache" / "bench"
_BODY = json.dumps({"inputs": TEXTS["short"]()[0]}).encode()


def median_s(call: Callable[[], Any], times: int, spent_s: Callable[[], float]) -> float:
    """spent_s: the clock whose differences are meant."""
    found = []
    for _ in range(times):
        began = spent_s()
        call()
        found.append(spent_s() - began)
    return statistics.median(found)


def forwards(task: str, folder: str, times: int) -> dict[int, float]:
    """Seconds by batch size. In a process of its own: torch is imported here."""
    from bench.encoder import Encoder

    encode, texts = Encoder(task, folder, threads=1), TEXTS["short"]()
    encode(texts[: BATCHES[-1]])
    return {size: median_s(partial(encode, texts[:size]), times, time.process_time) for size in BATCHES}


def starts(task: str, folder: Path, times: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        port = free_port()
        entry = {"id": "one", "task": task, "model": str(folder), "threads": THREADS}
        command = serve_command(write_catalog(Path(scratch), [entry]), port)
        with running(command, log=Path(scratch) / "log") as process:
            wait_until_up(port, "/readyz", 120.0, process)
            ask = partial(_ask, port, f"/v1/{task}", _BODY)
            ask()  # the forkserver is up, the files are in the page cache
            memory = memory_of(get(port, "/metrics")[1].decode())
            unload = partial(_ask, port, "/v1/models/one/unload", b"")
            found = {}
            for name, spent_s in (("load_s", partial(tree_cpu_s, process.pid)), ("load_clock_s", time.perf_counter)):
                warm = median_s(ask, times, spent_s)
                cold = []
                for _ in range(times):
                    unload()
                    cold.append(median_s(ask, 1, spent_s))
                found[name] = statistics.median(cold) - warm
    return {**found, "memory_bytes": memory}


def _ask(port: int, path: str, body: bytes) -> None:
    status, answer = post(port, path, body)
    if status != 200:
        raise RuntimeError(f"{path} answers {status}: {answer[:200].decode(errors='replace')}")


def measured(name: str, task: str, folder: Path, times: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.scaling.measure", "--forwards", task, str(folder), "--times", str(times)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return {
        "model": name,
        "weights_bytes": sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        **starts(task, folder, times),
        "forward_s": json.loads(done.stdout),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=15, help="repetitions")
    parser.add_argument("--forwards", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.forwards is not None:
        task, folder = options.forwards
        say(json.dumps(forwards(task, folder, options.times)))
        return
    _CACHE.mkdir(parents=True, exist_ok=True)
    rows = [
        measured("all-MiniLM-L6-v2", "feature-extraction", copy_minilm(_CACHE / "minilm"), options.times),
        measured("BERT-base-sized", "text-classification", build_bert_base(_CACHE / "bert-base"), options.times),
    ]
    say(json.dumps({"load_average": round(os.getloadavg()[0], 1), "models": rows}, indent=2))


if __name__ == "__main__":
    main()
