"""One candidate in a worker process of its own: loaded, measured, ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from app.catalog import ModelSpec
from app.channel.messages import (
    FromWorker,
    Load,
    LoadFailed,
    Measure,
    Measured,
    Progress,
    Ready,
    SetThreads,
)
from app.errors import ModelFailed
from app.fleet.handle import Limits, describe_exit
from app.fleet.processes import Launcher, WorkerProcess
from app.fleet.threads import granted_alone


class Trial:
    """A loaded candidate. Its errors are PipeserveErrors, each a sentence for the table."""

    def __init__(self, process: WorkerProcess, limits: Limits, on_progress: Callable[[Progress], None]) -> None:
        self._process = process
        self._messages = aiter(process.connection.receive())
        self._limits = limits
        self._on_progress = on_progress
        self.num_threads = 0
        self.ready: Ready

    async def load(self, spec: ModelSpec, cores: int) -> None:
        """With as many threads as the server grants a worker that computes alone."""
        self.num_threads = granted_alone(spec.threads, cores)
        self._process.connection.send(Load(spec=msgspec.to_builtins(spec), num_threads=self.num_threads))
        while True:
            match await self._next(self._limits.load_heartbeat_s):
                case Ready() as ready:
                    self.ready = ready
                    break
                case LoadFailed(error=error):
                    raise error.to_error()
                case Progress() as progress:
                    self._on_progress(progress)
        if spec.threads is None and "cpu" not in self.ready.memory:
            self.num_threads = 1  # which feeds the accelerator
            self._process.connection.send(SetThreads(num_threads=1))

    async def measure(
        self,
        task: str,
        requests: Sequence[list[Any]],
        parameters: dict[str, Any],
        *,
        limit_s: float,
        keeps_outputs: bool = False,
    ) -> Measured:
        self._process.connection.send(
            Measure(
                task=task,
                requests=list(requests),
                parameters=parameters,
                limit_s=limit_s,
                keeps_outputs=keeps_outputs,
            )
        )
        patience_s = limit_s + 2 * self._limits.forward_s
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    match await self._next(self._limits.heartbeat_s):
                        case Measured() as measured:
                            if measured.error is not None:
                                raise measured.error.to_error()
                            return measured
        except TimeoutError:
            raise ModelFailed(f"two requests were not computed within {patience_s:g} s") from None

    async def _next(self, limit_s: float) -> FromWorker:
        """The next message; heartbeats are messages. Raises ModelFailed when the process ends or is silent."""
        try:
            return await asyncio.wait_for(anext(self._messages), limit_s)
        except TimeoutError:
            raise ModelFailed(f"its process gave no sign of life for {limit_s:g} s") from None
        except StopAsyncIteration:
            raise ModelFailed(f"its {describe_exit(await self._process.wait()).removeprefix('the ')}") from None


@asynccontextmanager
async def loaded(
    spec: ModelSpec,
    launcher: Launcher,
    *,
    cores: int,
    limits: Limits,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> AsyncIterator[Trial]:
    """Its process is gone when the block is left, however that happens. Raises PipeserveError where it cannot load."""
    try:
        process = await launcher.launch(spec)
    except OSError as error:
        raise ModelFailed(f"no process could be started: {error}") from error
    try:
        trial = Trial(process, limits, on_progress)
        await trial.load(spec, cores)
        yield trial
    finally:
        process.kill()
        process.connection.close()
        await process.wait()
