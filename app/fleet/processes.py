"""The seam between the fleet and worker processes: what a launcher gives, and what tests fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from app.catalog import ModelSpec
from app.channel.messages import FromWorker, ToWorker


class Connection(Protocol):
    """The API process's end of a worker's socket. Owned by the event loop."""

    def send(self, message: ToWorker) -> None:
        """Queue a message, never blocking; silently dropped once the worker is gone (its end is seen by `receive`)."""
        ...

    def receive(self) -> AsyncIterator[FromWorker]:
        """Messages until the connection ends (end of file: the worker is gone or going)."""
        ...

    def close(self) -> None: ...


class WorkerProcess(Protocol):
    """A started worker; it waits for its `Load`."""

    pid: int
    connection: Connection

    async def wait(self) -> int:
        """Until the process is reaped: its exit code, or minus the signal that ended it."""
        ...

    def kill(self) -> None:
        """SIGKILL. Harmless when the process is gone."""
        ...


class Launcher(Protocol):
    async def start(self) -> None:
        """Make ready in the background (a forkserver preloads); returns at once."""
        ...

    async def launch(self, spec: ModelSpec) -> WorkerProcess:
        """A fresh worker process for this entry, in the environment it names."""
        ...

    async def stop(self) -> None: ...
