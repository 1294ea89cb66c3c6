"""What turns a fresh process, spawned or forked, into a worker."""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import socket
import sys
import time
from queue import SimpleQueue
from typing import Any, NoReturn

from app.catalog import ModelSpec
from app.channel.connection import WorkerConnection
from app.confinement import confine
from app.logs import LOG_FORMAT_VARIABLE, LOG_LEVEL_VARIABLE, configure_logging
from app.worker.stage_threads import LoadModel
from app.worker.worker import Worker

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
# What the device thread may wait for the GIL, for every operator. MiniLM at 1 client: 1.2 ms around the forward with
# the default of 5 ms, 0.9 ms with this and with 0.1 ms; throughput at 32 clients is the same with all three.
_SWITCH_INTERVAL_S = 0.0005


def serve(fd: int, load: LoadModel) -> NoReturn:
    """Be the worker at this socket until the connection ends or `Stop`. Ends the process; never returns."""
    ignore_terminal_signals()
    begin_log("worker")
    confine("workers")
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    events: SimpleQueue[Any] = SimpleQueue()
    connection = WorkerConnection(socket.socket(fileno=fd), events)
    connection.start()
    try:
        exit_code = Worker(connection, events, load, time.perf_counter, on_load=_show_model).run()
    except Exception:
        logger.critical("the worker broke. This is a bug.", exc_info=True)
        exit_code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a hanging forward, or a library's exit handler, must not keep the process.
    os._exit(exit_code)


def begin_log(name: str) -> None:
    """In the API process's form, each line with this name and the process id."""
    level = os.environ.get(LOG_LEVEL_VARIABLE, "info")
    form = os.environ.get(LOG_FORMAT_VARIABLE, "text")
    configure_logging(level=level, form=form, process=f"{name}[{os.getpid()}]")


def become_spawned_worker() -> int:
    """First thing in a fresh interpreter: the file descriptor of its socket, from `--fd`."""
    ignore_terminal_signals()
    die_with_parent()
    parser = argparse.ArgumentParser(prog="app.worker")
    parser.add_argument("--fd", type=int, required=True)
    fd = int(parser.parse_args().fd)
    close_inherited_fds(keep=fd)
    return fd


def ignore_terminal_signals() -> None:
    """Ctrl-C and `kill` reach the whole process group; the API process decides when a worker ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, stopped processes included (Linux only)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG failed")


def close_inherited_fds(*, keep: int) -> None:
    """Close all file descriptors but the standard ones and `keep`."""
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, keep)
    os.closerange(keep + 1, limit)


def reseed() -> None:
    """Forked processes share the state of the libraries' random generators; Python's own is reseeded by itself."""
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    if (torch := sys.modules.get("torch")) is not None:
        torch.seed()


def _show_model(spec: ModelSpec) -> None:
    """Name the process after its model, for `ps` and `top`, where setproctitle is installed."""
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle(f"pipeserve worker: {spec.id}")
