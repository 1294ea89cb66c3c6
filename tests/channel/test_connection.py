"""Both ends of the socket together: asyncio on one side, threads on the other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from queue import SimpleQueue

import pytest

from app.channel.connection import Disconnected, SocketConnection, WorkerConnection
from app.channel.frames import Outbox
from app.channel.messages import (
    Cancel,
    ErrorInfo,
    FromWorker,
    Heartbeat,
    JobFailed,
    StageBegan,
    Submit,
    ToWorker,
)


@dataclass
class Pair:
    api: SocketConnection
    worker: WorkerConnection
    worker_socket: socket.socket
    events: SimpleQueue[ToWorker | Disconnected]

    async def next_event(self) -> ToWorker | Disconnected:
        return await asyncio.to_thread(self.events.get, timeout=10)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    ours, theirs = socket.socketpair()
    events: SimpleQueue[ToWorker | Disconnected] = SimpleQueue()
    worker = WorkerConnection(theirs, events)
    worker.start()
    api = await SocketConnection.open(ours)
    yield Pair(api, worker, theirs, events)
    api.close()
    worker.finish(10)
    while not isinstance(await asyncio.to_thread(events.get, timeout=10), Disconnected):
        pass
    theirs.close()
    await asyncio.sleep(0)


def submit(job_id: int, text: str = "") -> Submit:
    return Submit(job_id=job_id, task="fill-mask", inputs=[text], parameters={})


async def test_messages_pass_both_ways(pair: Pair) -> None:
    """What one end sends, the other receives in order."""
    pair.api.send(submit(1))
    pair.api.send(submit(2))
    assert [await pair.next_event(), await pair.next_event()] == [submit(1), submit(2)]
    pair.worker.send(Heartbeat(rss_bytes=7))
    async for message in pair.api.receive():
        assert message == Heartbeat(rss_bytes=7)
        break


async def test_cancel_overtakes_large_inputs(pair: Pair) -> None:
    """Control sent in the same turn as tens of megabytes arrives before them."""
    large = submit(1, "x" * 30_000_000)
    pair.api.send(large)
    pair.api.send(Cancel(job_id=9))
    assert await pair.next_event() == Cancel(job_id=9)
    assert await pair.next_event() == large


async def test_large_answers_pass(pair: Pair) -> None:
    """An answer far above the socket's buffer arrives whole."""
    error = ErrorInfo(code="backend", message="x" * 30_000_000)
    pair.worker.send(JobFailed(job_id=1, error=error))
    async for message in pair.api.receive():
        assert message == JobFailed(job_id=1, error=error)
        break


async def test_a_stage_begins_once_its_announcement_is_written(pair: Pair) -> None:
    """`then` runs after the announcement is on the wire: it can be received without anything else happening."""
    written: SimpleQueue[str] = SimpleQueue()
    announcement = StageBegan(stage="forward", job_ids=[1])
    pair.worker.send(announcement, then=lambda: written.put("written"))
    assert await asyncio.to_thread(written.get, timeout=10) == "written"
    async for message in pair.api.receive():
        assert message == announcement
        break


async def test_receive_ends_with_the_worker() -> None:
    """End of file on the worker's side ends the iteration, after everything that was sent before it."""
    ours, theirs = socket.socketpair()
    api = await SocketConnection.open(ours)
    worker = WorkerConnection(theirs, SimpleQueue())
    worker.start()
    worker.send(Heartbeat(rss_bytes=1))
    worker.finish(10)
    theirs.shutdown(socket.SHUT_RDWR)
    received: list[FromWorker] = [message async for message in api.receive()]
    assert received == [Heartbeat(rss_bytes=1)]
    api.send(submit(1))  # dropped: the worker is gone
    api.close()
    theirs.close()
    await asyncio.sleep(0)


async def test_the_last_words_of_a_dead_worker_are_heard() -> None:
    """A write that fails because the worker is dead does not lose what it had sent: it may name the suspects."""
    ours, theirs = socket.socketpair()
    api = await SocketConnection.open(ours)
    announcement = StageBegan(stage="forward", job_ids=[1])
    outbox = Outbox()
    outbox.push(announcement)
    theirs.sendall(b"".join(outbox.take()))
    theirs.close()
    api.send(submit(2))
    assert [message async for message in api.receive()] == [announcement]


async def test_garbage_from_a_worker_ends_its_connection() -> None:
    """A worker that writes nonsense is treated as gone."""
    ours, theirs = socket.socketpair()
    api = await SocketConnection.open(ours)
    with theirs:
        theirs.sendall(b"\xff" * 64)
        assert [message async for message in api.receive()] == []


async def test_garbage_from_the_api_process_ends_the_worker() -> None:
    """The worker does not go on with a stream that it cannot read."""
    ours, theirs = socket.socketpair()
    events: SimpleQueue[ToWorker | Disconnected] = SimpleQueue()
    worker = WorkerConnection(theirs, events)
    worker.start()
    with ours, theirs:
        ours.sendall(b"\xff" * 64)
        assert isinstance(await asyncio.to_thread(events.get, timeout=10), Disconnected)
        worker.finish(10)
