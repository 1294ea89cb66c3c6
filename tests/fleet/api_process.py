"""A stand-in for the API process that tests may kill: starts workers, prints the pids of its processes, waits."""

from __future__ import annotations

import asyncio
import sys

import msgspec
import orjson

from app.catalog import ModelSpec
from app.channel.messages import Load, Ready
from app.fleet.launcher import ForkserverLauncher, SpawnLauncher
from app.fleet.processes import Launcher, WorkerProcess

WORKER = "tests.fake_worker"


async def start_worker(launcher: Launcher, model: str = "scripted", *, env: str | None = None) -> WorkerProcess:
    """A worker whose model is ready."""
    spec = ModelSpec(id="scripted", model=model, env=env)
    worker = await launcher.launch(spec)
    worker.connection.send(Load(spec=msgspec.to_builtins(spec), num_threads=1))
    async for message in worker.connection.receive():
        if isinstance(message, Ready):
            return worker
    raise RuntimeError("the worker ended before it was ready")


async def main(kind: str) -> None:
    forking, spawning = ForkserverLauncher(worker=WORKER, preload=()), SpawnLauncher(worker=WORKER)
    launcher = forking if kind == "forkserver" else spawning
    await launcher.start()
    workers = [await start_worker(launcher) for _ in range(2)]
    pids = [worker.pid for worker in workers]
    if kind == "forkserver" and forking.forkserver_pid is not None:
        pids.append(forking.forkserver_pid)
    sys.stdout.write(orjson.dumps(pids).decode() + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
