"""Streams through the fleet on fake workers: credits go back as parts are taken, deaths end what has begun."""

from __future__ import annotations

import asyncio

import pytest

from app.channel.messages import Credit, Deltas, JobDelta
from app.errors import WorkerLost
from app.fleet.requests import JobRequest, JobResult
from app.tasks.completion import Delta
from tests.fleet.fakes import TASK, FakeWorker, House, settle


class Client:
    """Reads a stream when it is told to."""

    def __init__(self, house: House) -> None:
        request = JobRequest(model_id="a", task=TASK, inputs=["x"], parameters={}, num_items=1)
        self._stream = house.fleet.stream(request)
        self._next: asyncio.Task[Delta | JobResult] | None = None

    async def begin(self) -> None:
        """As far as it goes without a part."""
        self._next = asyncio.ensure_future(anext(self._stream))
        await settle()

    async def read(self) -> Delta | JobResult:
        item, self._next = self._next or asyncio.ensure_future(anext(self._stream)), None
        return await item

    async def leave(self) -> None:
        await self._stream.aclose()


def say(worker: FakeWorker, *texts: str) -> None:
    (job_id,) = worker.jobs
    worker.say(Deltas(parts=[JobDelta(job_id=job_id, delta=Delta(text=text)) for text in texts]))


def credits_of(worker: FakeWorker) -> int:
    return sum(message.num_parts for message in worker.received if isinstance(message, Credit))


async def begun(house: House) -> tuple[Client, FakeWorker]:
    await house.answered()
    client = Client(house)
    await client.begin()
    return client, house.launcher.of("a")


async def test_parts_that_are_taken_make_room_for_as_many() -> None:
    """And those that lie there make none."""
    async with House() as house:
        client, worker = await begun(house)
        say(worker, "a", "b", "c", "d")
        await settle()
        read = [await client.read() for _ in range(2)]
        assert read == [Delta(text="a"), Delta(text="b")]
        assert credits_of(worker) == 2
        await client.leave()


async def test_stream_that_somebody_reads_along_ends_with_its_worker() -> None:
    """What was said before is read, then the error; the worker is replaced, the stream not begun again."""
    async with House() as house:
        client, worker = await begun(house)
        say(worker, "a", "b")
        await settle()
        worker.die(-9)
        await settle()
        assert await client.read() == Delta(text="a") and await client.read() == Delta(text="b")
        with pytest.raises(WorkerLost, match="in the midst of this stream"):
            await client.read()
        assert house.launcher.of("a").jobs == {}


async def test_stream_that_has_not_begun_is_computed_again() -> None:
    """Its reader never hears of the death; the credit goes to the worker that it comes from."""
    async with House() as house:
        client, worker = await begun(house)
        worker.die(-9)
        await settle()
        replacement = house.launcher.of("a")
        say(replacement, "a")
        assert await client.read() == Delta(text="a")
        replacement.answer()
        assert isinstance(await client.read(), JobResult)
        assert credits_of(replacement) == 1 and credits_of(worker) == 0


async def test_reader_that_leaves_cancels_its_job() -> None:
    """In the midst of its stream."""
    async with House() as house:
        client, worker = await begun(house)
        (job_id,) = worker.jobs
        say(worker, "a")
        await client.read()
        await client.leave()
        await settle()
        assert worker.cancelled == [job_id] and house.fleet.status("a").in_flight == 0
