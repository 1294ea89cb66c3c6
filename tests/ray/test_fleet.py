"""The fleet of an ingress: which deployment, what becomes of errors, and of replicas that end. Without Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing

import msgspec
import pytest

from app.catalog import Catalog, ModelSpec, QueueSpec
from app.channel.messages import ErrorInfo
from app.errors import (
    BackendFailed,
    DeadlineExceeded,
    Draining,
    InvalidInput,
    ModelFailed,
    ModelLoading,
    NotAvailable,
    NotServed,
    Overloaded,
    Unavailable,
)
from app.fleet.events import NullEvents
from app.fleet.requests import JobRequest, JobResult, ModelStatus
from app.ray.fleet import MAX_ATTEMPTS, RayFleet, together
from app.ray.handles import ReplicaLost
from app.ray.metrics import Board, Report, encode_report
from app.ray.wire import Answered, Parts, Refused, Standing
from app.tasks.completion import Delta
from tests.ray.fakes import RESULT, FakeHandle

SPEC = ModelSpec(id="reviews", model="acme/reviews", tasks=("text-classification",), has_handler=False)
BROKEN = msgspec.structs.replace(SPEC, id="broken", problem="There is no folder /nothing.")
REQUEST = JobRequest(model_id="reviews", task="text-classification", inputs=["fine"], parameters={}, num_items=1)
READY = ModelStatus(spec=SPEC, state="ready", memory={"cpu": 100}, in_flight=2, queued=1, replicas=1, wait_s=0.5)
LOST = ReplicaLost("The actor died.")
DONE = Answered(result=RESULT)


class Rejections(NullEvents):
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def rejected(self, model: str, reason: str) -> None:
        self.seen.append((model, reason))


def fleet_of(
    handle: FakeHandle,
    spec: ModelSpec = SPEC,
    events: NullEvents | None = None,
    replicas: Mapping[str, ModelStatus] = {},
) -> RayFleet:
    """replicas: what each has told of itself, by name."""
    board = Board("ingress", time.monotonic)
    for name, status in replicas.items():
        board.put(encode_report(Report(replica=name, status=status)))
    return RayFleet(Catalog(models=(spec, BROKEN)), {spec.id: handle}, board, events or NullEvents())


async def test_job_is_answered_by_its_deployment() -> None:
    """The request as it came, but for how long a replica is kept; the result as it was made."""
    handle = FakeHandle(calls=[DONE])
    result = await fleet_of(handle).submit(
        msgspec.structs.replace(REQUEST, keep_alive_s=0.0, inputs=["a", b"\xff\x00"])
    )
    assert result == RESULT
    (request,) = handle.requests
    assert (request.inputs, request.keep_alive_s) == (["a", b"\xff\x00"], None)


async def test_errors_are_what_they_were() -> None:
    """Class, sentence, parameter and the time to wait."""
    told = InvalidInput("inputs[0]: not to the model's taste", param="inputs[0]")
    with pytest.raises(InvalidInput, match="not to the model's taste") as invalid:
        await fleet_of(FakeHandle(calls=[Refused.by(told)])).submit(REQUEST)
    assert invalid.value.param == "inputs[0]"
    full = Refused(error=ErrorInfo(code="overloaded", message="Too many.", retry_after_s=7.0))
    with pytest.raises(Overloaded) as overloaded:
        await fleet_of(FakeHandle(calls=[full])).submit(REQUEST)
    assert overloaded.value.retry_after_s == 7.0


async def test_lost_and_ending_replicas_lose_no_request() -> None:
    """One dies, the next is being stopped, the third answers; of a stream the same, while nothing was read of it."""
    draining = Refused.by(Draining("The server is shutting down."))
    handle = FakeHandle(calls=[LOST, draining, DONE], streams=[[LOST], [draining], [DONE]])
    fleet = fleet_of(handle)
    assert await fleet.submit(REQUEST) == RESULT
    assert [part async for part in fleet.stream(REQUEST)] == [RESULT]
    assert handle.methods == ["submit"] * 3 + ["stream"] * 3


async def test_no_request_is_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replica after replica ends: 503, to be tried again later."""
    monkeypatch.setattr("app.ray.fleet._FIRST_PAUSE_S", 0.0)
    handle = FakeHandle(calls=[LOST], streams=[[LOST]])
    fleet = fleet_of(handle)
    with pytest.raises(Unavailable, match="replicas that had this request ended") as error:
        await fleet.submit(REQUEST)
    assert error.value.retryable
    with pytest.raises(Unavailable):
        await anext(fleet.stream(REQUEST))
    assert len(handle.methods) == 2 * MAX_ATTEMPTS


async def test_stream_of_which_somebody_has_read_is_not_begun_again() -> None:
    """It ends with an error, whether its replica died or its answer was never finished."""
    handle = FakeHandle(streams=[[Parts(deltas=[Delta(), Delta()]), LOST]])
    parts = fleet_of(handle).stream(REQUEST)
    assert [await anext(parts), await anext(parts)] == [Delta(), Delta()]
    with pytest.raises(BackendFailed, match="ended before its end"):
        await anext(parts)
    assert len(handle.methods) == 1


async def test_who_leaves_cancels_the_call() -> None:
    """At the replica too: the handle's call and stream are cancelled."""
    handle = FakeHandle(streams=[[Parts(deltas=[Delta()])]])
    fleet = fleet_of(handle)
    waiting = asyncio.create_task(fleet.submit(REQUEST))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with aclosing(fleet.stream(REQUEST)) as parts:
        await anext(parts)
        pending = asyncio.create_task(anext(parts))
        await asyncio.sleep(0.01)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
    assert handle.num_left == 2


async def test_deadline_counts_the_wait_for_a_replica() -> None:
    """The entry's own, or the request's, from when the ingress has it."""
    short = msgspec.structs.replace(SPEC, queue=QueueSpec(deadline_s=0.02))
    handle = FakeHandle(streams=[[]])
    with pytest.raises(DeadlineExceeded, match='"reviews" had no answer within'):
        await fleet_of(handle, short).submit(REQUEST)
    with pytest.raises(DeadlineExceeded):
        await anext(fleet_of(handle).stream(msgspec.structs.replace(REQUEST, deadline_s=0.02)))
    assert handle.num_left == 2


async def test_full_queue_of_the_deployment_is_counted() -> None:
    """Serve refuses where too many wait for a replica. What a replica refuses it counts itself."""
    events = Rejections()
    with pytest.raises(Overloaded):
        await fleet_of(FakeHandle(calls=[Overloaded("Too many.")]), events=events).submit(REQUEST)
    assert events.seen == [("reviews", "model_queue")]
    with pytest.raises(Overloaded):
        await fleet_of(FakeHandle(calls=[Refused.by(Overloaded("Too many."))]), events=events).submit(REQUEST)
    assert len(events.seen) == 1


async def test_model_that_cannot_be_served_says_why() -> None:
    """It has no deployment; an unknown one has no entry either."""
    fleet = fleet_of(FakeHandle(calls=[DONE]))
    with pytest.raises(ModelFailed, match="There is no folder /nothing."):
        await fleet.submit(msgspec.structs.replace(REQUEST, model_id="broken"))
    with pytest.raises(NotServed):
        await fleet.submit(msgspec.structs.replace(REQUEST, model_id="unknown"))
    assert (fleet.status("broken").state, fleet.status("broken").reason) == ("failed", BROKEN.problem)


async def test_caller_that_does_not_wait_starts_a_replica() -> None:
    """Without a replica: 503, and one is asked for; with one: an answer."""
    handle = FakeHandle(calls=[Standing(status=READY)])
    hasty = msgspec.structs.replace(REQUEST, wait_for_load=False)
    with pytest.raises(ModelLoading):
        await fleet_of(handle).submit(hasty)
    await asyncio.sleep(0.01)
    assert handle.methods == ["load"]
    assert await fleet_of(FakeHandle(calls=[DONE]), replicas={"a": READY}).submit(hasty) == RESULT


def test_status_is_of_all_replicas_together() -> None:
    """Sums, and the shortest wait; one that still loads does not hide those that are ready."""
    loading = ModelStatus(spec=SPEC, state="loading", in_flight=0, replicas=0)
    fleet = fleet_of(FakeHandle(), replicas={"a": loading, "b": READY, "c": READY})
    status = fleet.status("reviews")
    assert (status.state, status.replicas, status.in_flight, status.queued, status.wait_s) == ("ready", 2, 4, 2, 0.5)
    assert status.memory == {"cpu": 200}
    assert together(SPEC, []).state == "unloaded"
    assert together(msgspec.structs.replace(SPEC, tasks=()), []).state == "unresolved"
    assert [one.spec.id for one in fleet.changed_statuses()] == ["broken"]


async def test_load_waits_for_a_replica_and_tells_its_failure() -> None:
    """As on one machine."""
    handle = FakeHandle(calls=[Standing(status=READY)])
    assert [one.state async for one in fleet_of(handle).load("reviews") if isinstance(one, ModelStatus)] == ["ready"]
    failing = FakeHandle(calls=[Refused.by(ModelFailed("Its weights are broken."))])
    with pytest.raises(ModelFailed, match="weights are broken"):
        await anext(aiter(fleet_of(failing).load("reviews")))


async def test_what_ray_cannot_do_is_a_sentence() -> None:
    """Each says what to do in its place."""
    fleet = fleet_of(FakeHandle())
    with pytest.raises(NotAvailable, match="keep_alive"):
        await fleet.unload("reviews")
    for pin in (fleet.pin, fleet.unpin):
        with pytest.raises(NotAvailable, match="models.yaml says what stays"):
            pin("reviews")
    with pytest.raises(NotAvailable, match="serve deploy"):
        fleet.reload(Catalog(models=()))
    with pytest.raises(NotAvailable, match="adapters:"):
        fleet.unload_adapter(SPEC)


async def test_draining_ingress_takes_nothing_new() -> None:
    """Its answers say so until Serve ends it."""
    fleet = fleet_of(FakeHandle(calls=[DONE]))
    await fleet.drain(0.0)
    with pytest.raises(Draining):
        await fleet.submit(REQUEST)
    assert not fleet.is_accepting


def test_result_survives_the_way() -> None:
    """Everything that a request or an answer holds is in the bytes."""
    from app.ray.wire import decode_reply, encode

    assert decode_reply(encode(DONE)) == DONE
    assert isinstance(RESULT, JobResult)
