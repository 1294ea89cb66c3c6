"""The fleet on real processes: what the fakes promise, seen once for real."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.catalog import Catalog, ModelSpec
from app.errors import BackendFailed, ModelFailed, WorkerLost
from app.fleet.fleet import Fleet
from app.fleet.launcher import ForkserverLauncher, has_forkserver
from app.fleet.processes import WorkerProcess
from app.fleet.requests import JobRequest, JobResult
from app.settings import Settings
from tests.fleet.api_process import WORKER
from tests.fleet.fakes import TASK, RecordedEvents, spec_of

pytestmark = pytest.mark.skipif(not has_forkserver(), reason="needs Linux with pidfd")

SPECS = (spec_of("a", model="scripted"), spec_of("b", model="scripted"), spec_of("dying", model="die"))


class WatchedLauncher(ForkserverLauncher):
    """Remembers the workers that it launched."""

    def __init__(self) -> None:
        super().__init__(worker=WORKER, preload=())
        self.launched: list[WorkerProcess] = []

    async def launch(self, spec: ModelSpec) -> WorkerProcess:
        worker = await super().launch(spec)
        self.launched.append(worker)
        return worker


class Server:
    def __init__(self, cache_dir: Path) -> None:
        self.launcher = WatchedLauncher()
        self.events = RecordedEvents()
        settings = Settings(cache_dir=cache_dir)
        self.fleet = Fleet(Catalog(models=SPECS), settings, self.launcher, events=self.events, cores=2)

    async def ask(self, model_id: str = "a", **order: Any) -> JobResult:
        return await self.fleet.submit(
            JobRequest(model_id=model_id, task=TASK, inputs=[order], parameters={}, num_items=1)
        )


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path)
    await made.fleet.start()
    yield made
    await made.fleet.stop()
    for worker in made.launcher.launched:
        async for _ in worker.connection.receive():
            pass
    await asyncio.sleep(0)


async def test_a_request_is_answered(server: Server) -> None:
    """Load, batch, answer, and a measured size for the next time."""
    result = await server.ask(text="hello")
    assert orjson.loads(result.outputs[0])[0] == ["hello"]
    status = server.fleet.status("a")
    assert (status.state, status.device) == ("ready", "cpu")
    assert status.memory_bytes
    assert server.events.of("batch_done")


async def test_killing_workers_loses_no_request(server: Server) -> None:
    """kill -9 again and again under load: every request has its own answer."""
    await server.ask(text="first")

    async def client(name: int) -> None:
        for number in range(15):
            text = f"{name}-{number}"
            result = await server.ask(text=text)
            assert orjson.loads(result.outputs[0])[0] == [text]

    clients = asyncio.gather(*(client(name) for name in range(8)))
    for _ in range(3):
        await server.events.more_of("job_done", 10)
        os.kill(server.launcher.launched[-1].pid, signal.SIGKILL)
    await clients
    assert len(server.events.of("restarted")) >= 3


async def test_poison_is_told_from_its_neighbours(server: Server) -> None:
    """The job that ends its process gets WorkerLost with the exit code; those beside it are answered."""
    await server.ask(text="first")
    poison = asyncio.create_task(server.ask(forward="die"))
    others = [asyncio.create_task(server.ask(text=f"{number}")) for number in range(5)]
    with pytest.raises(WorkerLost, match="exit code 77"):
        await poison
    for number, other in enumerate(others):
        assert orjson.loads((await other).outputs[0])[0] == [f"{number}"]


async def test_an_exception_costs_no_worker(server: Server) -> None:
    """The model's error is that job's; its text stays in the log."""
    with pytest.raises(BackendFailed) as raised:
        await server.ask(forward="raise")
    assert "secret" not in str(raised.value)
    assert len(server.launcher.launched) == 1


async def test_a_worker_that_dies_while_loading_is_failed_in_the_end(server: Server) -> None:
    """Three processes, then the reason; the others serve."""
    with pytest.raises(ModelFailed, match="exit code 77"):
        await server.ask("dying")
    assert len(server.launcher.launched) == 3
    assert (await server.ask("b", text="x")).outputs


async def test_unload_ends_the_process(server: Server) -> None:
    """And the next request has a new one."""
    await server.ask(text="x")
    (worker,) = server.launcher.launched
    assert (await server.fleet.unload("a")).state == "unloaded"
    assert await worker.wait() == 0
    assert (await server.ask(text="x")).outputs


async def test_a_cancelled_request_frees_its_permits(server: Server) -> None:
    """Though its forward goes on; another model is not kept from answering."""
    hanging = asyncio.create_task(server.ask(forward="hang"))
    await server.ask("b", text="x")
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert server.fleet.status("a").in_flight == 0
