"""Processes of a benchmark: started, asked whether they are up, measured, and ended by their pid."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
THREADS = max(1, (os.cpu_count() or 1) - 1)
"""Compute threads of everybody: what the server grants a single busy model."""

_END_S = 20.0


class Unavailable(Exception):
    """A contestant that could not be installed or run. Its text is the reason, one sentence."""


def without_folders(text: str) -> str:
    """Without this machine's folders: results are published."""
    return re.sub(r"(?<![\w.~/-])/(?:home|opt|private|root|tmp|usr|Users|var|work)/(?:[\w.@+-]+/)*", "", text)


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str, timeout_s: float = 10.0) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def post(port: int, path: str, body: bytes, timeout_s: float = 120.0) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until_up(
    port: int, path: str, timeout_s: float = 120.0, process: subprocess.Popen[bytes] | None = None
) -> float:
    """Seconds until it answered 200. Raises TimeoutError, and Unavailable when the process ended instead."""
    began = time.perf_counter()
    while time.perf_counter() - began < timeout_s:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if get(port, path)[0] == 200:
                return time.perf_counter() - began
        if process is not None and process.poll() is not None:
            raise Unavailable(f"it ended with {process.returncode} before it answered {path}")
        time.sleep(0.05)
    raise TimeoutError(f"nothing answered {path} within {timeout_s:.0f} s")


@contextlib.contextmanager
def running(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Ended, with all that it started, when the block ends, however it ends. log: what it prints; None: errors only."""
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **(environment or {})}
    with log.open("wb") if log else contextlib.nullcontext(None) as output:
        process = subprocess.Popen(
            list(command),
            cwd=REPOSITORY,
            env=variables,
            stdout=output or subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others in order
        )
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """SIGTERM, time to leave, then SIGKILL for it and for those of its processes that outlived it."""
    started = _tree(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(started, timeout=3)
    for one in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, without its children."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def tree_cpu_s(pid: int) -> float:
    """Seconds of CPU that a process and those below it have used."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def tree_memory_bytes(pid: int) -> int:
    """Proportional set size of a process and those below it: what they share counts once."""
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def last_line(command: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a measuring process prints last: one line of JSON. Raises RuntimeError with what it said instead."""
    done = subprocess.run(
        list(command), cwd=REPOSITORY, env={**os.environ, **(environment or {})}, capture_output=True, text=True
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise RuntimeError(f"`{' '.join(map(str, command[:4]))} ...` failed: {lines[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def load(
    url: str,
    bodies: Path,
    concurrency: int,
    seconds: float,
    *,
    is_base64: bool = False,
    rate: float | None = None,
    with_wrk: bool = False,
    key: str | None = None,
) -> dict[str, Any]:
    """`bench.load` in a process of its own. rate: requests a second at a constant rate, whatever the answers do. key:
    an API key."""
    command = [sys.executable, "-m", "bench.load", url, "--bodies", str(bodies)]
    command += ["--concurrency", str(concurrency), "--seconds", str(seconds)]
    command += ["--rate", str(rate)] if rate else []
    command += ["--key", key] if key else []
    return last_line(command + ["--base64"] * is_base64 + ["--wrk"] * with_wrk)


def serve_command(catalog: Path, port: int) -> list[str]:
    arguments = ["serve", "--models", str(catalog), "--port", str(port), "--log-level", "warning"]
    return [sys.executable, "-m", "app", *arguments]


def write_catalog(folder: Path, entries: Sequence[Mapping[str, Any]], **more: Any) -> Path:
    """A models.yaml. more: its other keys, such as budget."""
    path = folder / "models.yaml"
    path.write_text(json.dumps({"models": list(entries), **more}))  # JSON is YAML
    return path
