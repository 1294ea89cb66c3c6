"""Many models: thirty declared, memory for five, wanted as words are: a few often, most seldom (Zipf).

For embeddings alone; and for generated texts beside `transformers serve`, which unloads by time, not by memory.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environments import TRANSFORMERS, reason_of
from bench.generation import build_model
from bench.processes import (
    REPOSITORY,
    THREADS,
    Unavailable,
    free_port,
    get,
    load,
    post,
    running,
    say,
    serve_command,
    tree_memory_bytes,
    wait_until_up,
    without_folders,
    write_catalog,
)
from bench.workload import TEXTS, copy_minilm, write_lines, zipf_draws

NUM_MODELS, NUM_RESIDENT = 30, 5
CONCURRENCY = 8
NUM_REQUESTS = 4096  # drawn; as many of them are sent as there is time for
NEW_TOKENS = 8
_EMBED, _CHAT = "/v1/feature-extraction", "/v1/chat/completions"


def minilm_copies(num: int = NUM_MODELS) -> list[Path]:
    """Files of their own, as different models have; built once."""
    folder = REPOSITORY / ".cache" / "bench" / "many"
    return [copy_minilm(folder / f"minilm-{index:02d}") for index in range(num)]


def chat_copies(num: int = NUM_MODELS) -> list[Path]:
    """A Qwen2 of 4 million parameters, with files of its own for each; built once."""
    folder = REPOSITORY / ".cache" / "bench" / "many"
    first = folder / "chat-00"
    if not (first / "model.safetensors").exists():
        build_model("4m", first)
    copies = [folder / f"chat-{index:02d}" for index in range(num)]
    for copy in copies[1:]:
        if not (copy / "model.safetensors").exists():
            shutil.copytree(first, copy, dirs_exist_ok=True)
    return copies


def need_bytes(scratch: Path, folder: Path, task: str, body: dict[str, Any], path: str) -> int:
    """What one of the models takes when it is loaded, as the server measures it."""
    port = free_port()
    entry = {"id": folder.name, "task": task, "model": str(folder), "threads": THREADS}
    with running(serve_command(write_catalog(scratch, [entry]), port)) as process:
        wait_until_up(port, "/readyz", 120.0, process)
        status, answer = post(port, path, json.dumps(body).encode())
        if status != 200:
            raise RuntimeError(f"{folder.name} answers {status}: {answer[:200].decode(errors='replace')}")
        return memory_of(get(port, "/metrics")[1].decode())


def memory_of(metrics: str) -> int:
    """The largest that a model takes, of Pipeserve's metrics."""
    return int(max(map(float, re.findall(r"^pipeserve_model_memory_bytes{[^}]*} ([\d.e+]+)$", metrics, re.MULTILINE))))


def embedding_bodies(folders: Sequence[Path], draws: Iterable[int]) -> list[dict[str, Any]]:
    texts = TEXTS["mixed"]()
    return [{"model": folders[one].name, "inputs": texts[at % len(texts)]} for at, one in enumerate(draws)]


def chat_bodies(names: Sequence[str], draws: Iterable[int]) -> list[dict[str, Any]]:
    texts = TEXTS["short"]()
    shared = {"max_tokens": NEW_TOKENS, "temperature": 0}
    return [
        {"model": names[one], "messages": [{"role": "user", "content": texts[at % len(texts)]}], **shared}
        for at, one in enumerate(draws)
    ]


@dataclass(frozen=True, kw_only=True)
class _Server:
    name: str
    command: Sequence[str]
    port: int
    health: str
    path: str
    bodies: Sequence[dict[str, Any]]


def measure(scratch: Path, seconds: float, *, may_install: bool) -> dict[str, Any]:
    """rows: of servers; a rival that could not run has its reason."""
    draws = zipf_draws(NUM_MODELS, NUM_REQUESTS)
    minilms, chats = minilm_copies(), chat_copies()
    named = [folder.name for folder in chats]
    rows = [
        _row(_ours(scratch, minilms, "feature-extraction", embedding_bodies(minilms, draws), _EMBED), scratch, seconds),
        _row(_ours(scratch, chats, "text-generation", chat_bodies(named, draws), _CHAT), scratch, seconds),
    ]
    for timeout_s in (300, 1):
        name = f"transformers serve --model-timeout {timeout_s}"
        try:
            TRANSFORMERS.ensure(may_install=may_install)
            bodies = chat_bodies([str(folder) for folder in chats], draws)
            rows.append(_row(_transformers(name, timeout_s, bodies), scratch, seconds))
        except (Unavailable, TimeoutError, RuntimeError, OSError) as error:
            rows.append({"server": name, "what": "generated texts", "reason": without_folders(str(error))})
            say(f"  {name} could not run: {error}")
    for row in rows:
        row["num_models"], row["num_resident"] = NUM_MODELS, NUM_RESIDENT
    return {"rows": rows, "transformers": TRANSFORMERS.version() if TRANSFORMERS.is_made() else ""}


def _ours(scratch: Path, folders: Sequence[Path], task: str, bodies: Sequence[dict[str, Any]], path: str) -> _Server:
    need = need_bytes(scratch, folders[0], task, {**bodies[0], "model": folders[0].name}, path)
    # Half a model more than five: one may measure a little above another.
    budget = {"cpu": int(need * (NUM_RESIDENT + 0.5))}
    shared = {"task": task, "threads": THREADS, "memory": need}
    entries = [{"id": folder.name, "model": str(folder), **shared} for folder in folders]
    port = free_port()
    command = serve_command(write_catalog(scratch, entries, budget=budget), port)
    return _Server(
        name="pipeserve",
        command=[*command, "--cache-dir", str(scratch / "cache")],
        port=port,
        health="/readyz",
        path=path,
        bodies=bodies,
    )


def _transformers(name: str, timeout_s: int, bodies: Sequence[dict[str, Any]]) -> _Server:
    port = free_port()
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    command = [TRANSFORMERS.program("transformers"), "serve", *arguments, "--model-timeout", str(timeout_s)]
    return _Server(name=name, command=command, port=port, health="/health", path=_CHAT, bodies=bodies)


def _row(server: _Server, scratch: Path, seconds: float) -> dict[str, Any]:
    what = "embeddings" if "messages" not in server.bodies[0] else "generated texts"
    bodies, log = write_lines(scratch / "bodies.jsonl", server.bodies), scratch / "log"
    url = f"http://127.0.0.1:{server.port}{server.path}"
    with running(server.command, environment={"OMP_NUM_THREADS": str(THREADS)}, log=log) as process:
        try:
            wait_until_up(server.port, server.health, 120.0, process)
        except (Unavailable, TimeoutError) as error:
            raise Unavailable(f"{error} ({reason_of(log.read_text(errors='replace'))})") from error
        load(url, bodies, 1, 1.0)  # torch is imported
        before = _counts(server.port)
        found = load(url, bodies, CONCURRENCY, seconds)
        after = _counts(server.port)
        row = {
            "server": server.name,
            "what": what,
            **found,
            **{name: after[name] - before[name] for name in after},
            "memory_bytes": tree_memory_bytes(process.pid),
        }
    say(
        f"  {server.name}, {what}: {row['requests_per_s']:.1f} requests/s, p50 {row['p50_ms']:.0f} ms,"
        f" p99 {row['p99_ms']:.0f} ms, {row['num_failed']} failed {row['first_failure']},"
        f" loads {row.get('loads', '?')}, evictions {row.get('evictions', '?')}"
    )
    return row


def _counts(port: int) -> dict[str, int]:
    """Loads and evictions so far, where the server tells."""
    try:
        status, body = get(port, "/metrics")
    except OSError:
        return {}
    return counts_of(body.decode()) if status == 200 else {}


def counts_of(metrics: str) -> dict[str, int]:
    """Sums over models of Pipeserve's counters; nothing where these are not Pipeserve's metrics."""
    if "pipeserve_loads_total" not in metrics:
        return {}
    found = {}
    for name, counter in (("loads", "pipeserve_loads_total"), ("evictions", "pipeserve_evictions_total")):
        values = re.findall(rf"^{counter}{{[^}}]*}} ([\d.e+]+)$", metrics, re.MULTILINE)
        found[name] = int(sum(map(float, values)))
    return found
