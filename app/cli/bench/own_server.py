"""A server of our own for one measurement: `pipeserve serve` on a free port of this machine, ended with the command."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from app.cli.server import Trouble

_ANNOUNCED = "serving on "
_PR_SET_PDEATHSIG = 1
_END_S = 30.0
_SHOWN_LINES = 3  # of what a server that did not start said
_DROPPED = ("PIPESERVE_API_KEYS", "PIPESERVE_KEYS_FILE", "PIPESERVE_RAY", "PIPESERVE_SSL_", "OTEL_", "NOTIFY_SOCKET")
"""Variables, or how they begin, that are about the server which people use, and not about how it computes."""


@contextmanager
def own_server(catalog: Path, cache_dir: Path) -> Iterator[str]:
    """Its URL. It and its workers are gone when the block is left, however that happens. Raises Trouble where it does
    not start."""
    with tempfile.TemporaryDirectory(prefix="pipeserve-bench-") as folder:
        command = [sys.executable, "-P", "-m", "app", "serve", "--models", str(catalog), "--cache-dir", str(cache_dir)]
        command += ["--host", "127.0.0.1", "--port", "0", "--log-level", "error", "--no-ui"]
        # Not the folder of a server that runs: two would answer the batches that are in it.
        command += ["--files-dir", f"{folder}/files"]
        with open(f"{folder}/log", "w+", encoding="utf-8") as log:
            process = subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for this process, which ends the server in order
                preexec_fn=_ended_with_its_parent(),
            )
            try:
                yield _url_of(process, log)
            finally:
                _end(process)


@contextmanager
def catalog_of_one(entry: dict[str, Any]) -> Iterator[Path]:
    """A models.yaml with this entry alone."""
    with tempfile.TemporaryDirectory(prefix="pipeserve-bench-") as folder:
        file = Path(folder) / "models.yaml"
        file.write_text(json.dumps({"models": [entry]}), encoding="utf-8")  # JSON is YAML
        yield file


def _url_of(process: subprocess.Popen[str], log: IO[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(_ANNOUNCED):
            return line.removeprefix(_ANNOUNCED).strip()
    process.wait()
    log.seek(0)
    said = " ".join(line.strip() for line in log.readlines()[-_SHOWN_LINES:])
    raise Trouble(f"The server did not start: {said or f'it ended with {process.returncode}'}")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _environment() -> dict[str, str]:
    """In which it finds our package, in whatever folder it is started."""
    from app.environments.places import PACKAGE, is_checkout

    found = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
    if is_checkout(PACKAGE.parent):
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    return found


def _ended_with_its_parent() -> Any:
    """To be called in the new process: the kernel ends it when this one ends by SIGKILL. None where there is no such
    thing."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
