"""`python -P -m app.worker.forkserver --fd N`: forks workers that have torch and transformers imported already.

Our own, because the children of multiprocessing's forkserver end with it and import the main module again. Here a
worker is forked twice, so that the kernel gives it to the API process (a subreaper): a dead forkserver takes no worker
with it. `app/channel/forks.py` has the protocol; the end of the connection ends the forkserver.

It never starts a thread: a fork of a process with threads may inherit locks that nobody will release.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import logging
import os
import socket
import time
from typing import NoReturn

from app.channel.forks import MAX_REQUEST_BYTES, REPLY, read_request
from app.worker.process import begin_log, close_inherited_fds, die_with_parent, ignore_terminal_signals, reseed

logger = logging.getLogger(__name__)

PRELOAD = (
    "torch",
    "transformers",
    "transformers.pipelines",
    "app.runtime.loading",
)


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="app.worker.forkserver")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--worker", default="app.worker.__main__", help="module whose run(fd) is a worker")
    parser.add_argument("--preload", default=",".join(PRELOAD), help="modules, separated by commas")
    arguments = parser.parse_args()
    die_with_parent()
    ignore_terminal_signals()
    begin_log("forkserver")
    preload([name for name in arguments.preload.split(",") if name])
    worker = importlib.import_module(arguments.worker)
    fd = serve_forks(socket.socket(fileno=arguments.fd))
    worker.run(fd)
    raise RuntimeError("a worker's run() returned. This is a bug.")


def preload(names: list[str]) -> None:
    """Import what workers need. What cannot be imported here cannot in the worker either, which then says so."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            logger.warning("the forkserver cannot import %s: %s", name, error)
    # Workers share these objects' pages for as long as their garbage collectors leave them alone.
    gc.collect()
    gc.freeze()


def serve_forks(control: socket.socket) -> int:
    """Fork on request. In the forkserver it ends with the process; in each worker it returns the worker's socket."""
    parent_pid = os.getppid()
    control.sendall(REPLY.pack(0))
    while True:
        data, fds, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 1)
        if not data:
            os._exit(0)
        try:
            pid = _fork_twice()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            _become_worker(fds[0], parent_pid)
            os.environ.update(read_request(data))
            return fds[0]
        for fd in fds:
            os.close(fd)
        control.sendall(REPLY.pack(pid))


def _fork_twice() -> int:
    """The worker's pid; in the worker, 0. Returns once the process between the two has ended."""
    read_fd, write_fd = os.pipe()
    try:
        middle_pid = os.fork()
        if middle_pid == 0:
            return _fork_worker(write_fd)
        os.close(write_fd)
        write_fd = -1
        os.waitpid(middle_pid, 0)
        reply = os.read(read_fd, REPLY.size)
    finally:
        os.close(read_fd)
        if write_fd >= 0:
            os.close(write_fd)
    pid = int(REPLY.unpack(reply)[0]) if reply else -errno.ECHILD
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid


def _fork_worker(write_fd: int) -> int:
    """In the process between: fork the worker, say its pid, and end. Returns (0) in the worker only."""
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or 1)
    if pid == 0:
        return 0
    try:
        os.write(write_fd, REPLY.pack(pid))
    finally:
        os._exit(0)  # whatever happens: it must not go on as a second forkserver


def _become_worker(fd: int, parent_pid: int) -> None:
    """parent_pid: the API process, which the kernel makes the parent when the process between has ended."""
    deadline = time.monotonic() + 10.0
    while os.getppid() != parent_pid:
        if time.monotonic() > deadline:
            os._exit(1)  # the API process ended, or is no subreaper: nobody would end this worker
        time.sleep(0.0002)
    die_with_parent()
    if os.getppid() != parent_pid:
        os._exit(1)
    close_inherited_fds(keep=fd)
    reseed()


if __name__ == "__main__":
    main()
