"""A replica's actor around a fleet of ours. Without Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.catalog import Catalog, ModelSpec
from app.channel.messages import Progress
from app.errors import ModelFailed, Overloaded, PipeserveError
from app.fleet.requests import JobRequest, JobResult, ModelStatus
from app.ray.metrics import Board
from app.ray.replica import ModelReplica, UnhealthyReplica
from app.ray.wire import Answered, Parts, Refused, Reply, Standing, decode_reply, encode
from app.tasks.completion import Delta
from app.telemetry import Telemetry
from tests.ray.fakes import RESULT

SPEC = ModelSpec(id="reviews", model="acme/reviews", tasks=("text-classification",), has_handler=False)
REQUEST = JobRequest(model_id="reviews", task="text-classification", inputs=["fine"], parameters={}, num_items=1)


class OneModel:
    """A fleet of one model: what a replica asks of it, by script."""

    def __init__(self, *, error: PipeserveError | None = None, deltas: int = 0) -> None:
        self.error = error
        self.state = "unloaded"
        self.deltas = deltas
        self.going_on = asyncio.Event()
        self.num_left = 0
        self.is_stopped = False

    async def start(self) -> None:
        self.state = "loading"

    async def stop(self) -> None:
        self.is_stopped = True

    async def load(self, model_id: str) -> AsyncIterator[Progress | ModelStatus]:
        self.state = "ready" if self.error is None else "failed"
        if self.error is not None:
            raise self.error
        yield self.status(model_id)

    def status(self, model_id: str) -> ModelStatus:
        reason = str(self.error) if self.error is not None else None
        return ModelStatus(spec=SPEC, state=self.state, reason=reason, replicas=int(self.state == "ready"))

    def changed_statuses(self) -> list[ModelStatus]:
        return [self.status("reviews")]

    async def submit(self, request: JobRequest) -> JobResult:
        if self.error is not None:
            raise self.error
        return RESULT

    async def stream(self, request: JobRequest) -> AsyncGenerator[Delta | JobResult, None]:
        try:
            for _ in range(self.deltas):
                yield Delta()
            await self.going_on.wait()
            if self.error is not None:
                raise self.error
            yield RESULT
        except asyncio.CancelledError:
            self.num_left += 1
            raise


def replica_of(fleet: Any) -> ModelReplica:
    return ModelReplica(Catalog(models=(SPEC,)), fleet, Telemetry(CollectorRegistry()), name="a1")


async def replies_of(replica: ModelReplica) -> list[Reply]:
    async with aclosing(replica.stream(encode(REQUEST))) as messages:
        return [decode_reply(message) async for message in messages]


async def test_replica_is_there_when_its_model_is() -> None:
    """No request is sent to one that would have it wait."""
    replica = replica_of(OneModel())
    await replica.start()
    standing = decode_reply(await replica.load())
    assert isinstance(standing, Standing)
    assert standing.status.state == "ready"
    assert decode_reply(await replica.submit(encode(REQUEST))) == Answered(result=RESULT)


async def test_model_that_cannot_be_loaded_has_a_replica_that_says_why() -> None:
    """Healthy: another one could not load it either."""
    replica = replica_of(OneModel(error=ModelFailed("There is no folder.")))
    await replica.start()
    await replica.check_health()
    refused = decode_reply(await replica.submit(encode(REQUEST)))
    assert isinstance(refused, Refused)
    assert (refused.error.code, refused.error.message) == ("model_failed", "There is no folder.")
    assert decode_reply(await replica.load()) == refused


async def test_replica_that_has_lost_its_worker_for_good_is_unhealthy() -> None:
    """For Serve to replace it; one whose worker is being replaced is not."""
    fleet = OneModel()
    replica = replica_of(fleet)
    await replica.start()
    await replica.check_health()
    fleet.state = "loading"
    await replica.check_health()
    fleet.state, fleet.error = "failed", ModelFailed("The device is gone.")
    with pytest.raises(UnhealthyReplica, match="The device is gone."):
        await replica.check_health()


async def test_time_to_wait_crosses_the_handle() -> None:
    """With the error that knows it."""
    fleet = OneModel(error=Overloaded("Too many.", retry_after_s=3.0))
    refused = decode_reply(await replica_of(fleet).submit(encode(REQUEST)))
    assert isinstance(refused, Refused)
    assert refused.error.retry_after_s == 3.0


async def test_parts_that_are_there_together_go_together() -> None:
    """Fewer messages, the same parts in the same order, the result last."""
    fleet = OneModel(deltas=5)
    fleet.going_on.set()
    *parts, last = await replies_of(replica_of(fleet))
    assert [len(one.deltas) for one in parts if isinstance(one, Parts)] == [5]
    assert last == Answered(result=RESULT)


async def test_parts_do_not_wait_for_the_end() -> None:
    """What is there is sent, though nothing follows."""
    fleet = OneModel(deltas=1)
    async with aclosing(replica_of(fleet).stream(encode(REQUEST))) as messages:
        assert decode_reply(await anext(messages)) == Parts(deltas=[Delta()])
        fleet.going_on.set()
        assert decode_reply(await anext(messages)) == Answered(result=RESULT)


async def test_error_ends_a_stream_after_its_parts() -> None:
    """As data, like any answer."""
    fleet = OneModel(deltas=2, error=ModelFailed("It went."))
    fleet.going_on.set()
    *parts, last = await replies_of(replica_of(fleet))
    assert sum(len(one.deltas) for one in parts if isinstance(one, Parts)) == 2
    assert isinstance(last, Refused)


async def test_stream_that_is_left_is_cancelled_in_the_fleet() -> None:
    """Serve cancels the task that waits for the next part."""
    fleet = OneModel(deltas=1)
    messages = replica_of(fleet).stream(encode(REQUEST))
    await anext(messages)
    waiting = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert fleet.num_left == 1


async def test_reports_have_the_gauges_as_they_are_now() -> None:
    """Under the replica's name; the last one takes them away."""
    replica = replica_of(OneModel())
    await replica.start()
    board = Board("ingress", time.monotonic)
    heard = asyncio.Event()

    async def tell(message: bytes) -> None:
        board.put(message)
        heard.set()

    reporting = asyncio.create_task(replica.report(tell))
    await heard.wait()
    reporting.cancel()
    assert [status.state for status in board.statuses("reviews")] == ["ready"]
    ((name, families),) = board.families()
    (state,) = (family for family in families if family.name == "pipeserve_model_state")
    assert name == "a1"
    assert {one.labels["state"] for one in state.samples if one.value} == {"ready"}
    board.put(replica.farewell())
    assert board.statuses("reviews") == []


async def test_end_of_a_replica_ends_its_fleet() -> None:
    """Workers included."""
    fleet = OneModel()
    await replica_of(fleet).stop()
    assert fleet.is_stopped
