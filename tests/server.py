"""A real server in a process of its own, as a user starts it, for tests that speak HTTP and send signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2 as httpx
import orjson
import psutil

REPOSITORY = Path(__file__).resolve().parent.parent


class RunningServer:
    """`pipeserve serve` on a free port of 127.0.0.1; its log is kept for failed tests. Ended by its process id."""

    def __init__(
        self, catalog: Path, *arguments: str, cache_dir: Path, variables: dict[str, str] | None = None
    ) -> None:
        command = [sys.executable, "-m", "app", "serve", "--models", str(catalog), "--port", "0"]
        command += ["--cache-dir", str(cache_dir), *arguments]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **(variables or {})}
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.log: list[str] = []
        self._url: str | None = None
        self._is_up = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if found := re.search(r"serving on (https?://\S+)", line):
                self._url = found[1]
                self._is_up.set()
        self._is_up.set()

    @property
    def url(self) -> str:
        assert self._is_up.wait(60), "the server did not start: " + "".join(self.log)
        assert self._url is not None, "the server ended: " + "".join(self.log)
        return self._url

    def client(self, **keywords: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **keywords)

    def post(self, path: str, body: Any, **keywords: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, content=orjson.dumps(body), **keywords)

    def get(self, path: str, **keywords: Any) -> httpx.Response:
        with self.client() as client:
            return client.get(path, **keywords)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def worker_pids(self, model_id: str | None = None) -> list[int]:
        """Processes that serve models: the children whose title or command line says `worker`, forkserver aside."""
        found = []
        for process in self.descendants():
            try:
                line = " ".join(process.cmdline())
            except psutil.NoSuchProcess:  # it has ended meanwhile
                continue
            if "forkserver" not in line.split(" ")[0] and "worker" in line and (model_id is None or model_id in line):
                found.append(process.pid)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._reader.join(10)
            if self.process.stdout is not None:
                self.process.stdout.close()

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def wait_until(is_so: Callable[[], bool], timeout_s: float = 20.0, what: str = "it") -> None:
    """Poll until it is so; fails the test after the limit."""
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.02)


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of a metric whose labels include these."""
    total = 0.0
    for line in text.splitlines():
        if line.startswith("#") or not re.match(rf"{name}[ {{]", line):
            continue
        if all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rsplit(" ", 1)[1])
    return total
