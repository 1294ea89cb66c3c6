"""The fleet as the holder of a key sees it: what the HTTP layer cannot show."""

from __future__ import annotations

import time
from typing import Any

import pytest

from app.access.clients import Client
from app.access.keys import ADMIN, Key
from app.access.usage import Used
from app.api.access.allowed import AllowedFleet, used_by
from app.catalog import AdapterSpec
from app.channel.messages import Timings
from app.errors import Forbidden
from app.fleet.requests import JobRequest, JobResult
from app.tasks.completion import Delta
from tests.api.fake_fleet import FakeFleet

MODEL = "tiny-text-generation"


def client(**values: Any) -> Client:
    return Client(Key(name="k", digest=bytes(32), **values), time.monotonic)


def job(model_id: str = MODEL, task: str = "completion", num_items: int = 1) -> JobRequest:
    return JobRequest(model_id=model_id, task=task, inputs=[{}] * num_items, parameters={}, num_items=num_items)


def result(batch_size: int) -> JobResult:
    timings = Timings(queue_s=9.0, prepare_s=0.1, forward_s=0.8, finish_s=0.01)
    return JobResult(
        outputs=[], timings=timings, load_wait_s=5, total_s=9, batch_size=batch_size, num_tokens=7, num_generated=3
    )


@pytest.mark.parametrize(("num_items", "batch_size", "share"), [(1, 1, 1), (1, 8, 1 / 8), (4, 8, 1 / 2), (64, 16, 1)])
def test_shared_forward_is_charged_by_its_share(num_items: int, batch_size: int, share: float) -> None:
    """Waiting is not charged; of several forwards, of a job that fills them, all."""
    used = used_by(job(num_items=num_items), result(batch_size))
    assert used.seconds == pytest.approx(0.11 + 0.8 * share)
    assert (used.jobs, used.input_tokens, used.output_tokens) == (1, 7, 3)


async def test_stream_that_is_left_has_cost_what_was_written() -> None:
    """Of each prompt and choice, once; no way around the limit of tokens."""
    fleet, me = FakeFleet(), client()
    fleet.deltas = [
        Delta(prompt=prompt, choice=choice, num_tokens=number, num_prompt_tokens=10 + prompt)
        for number in range(1, 5)
        for prompt in (0, 1)
        for choice in (0, 1)
    ]
    stream = AllowedFleet(fleet, me).stream(job())
    for _ in range(8):
        await anext(stream)
    assert me.usage.by_model == {}
    await stream.aclose()
    assert me.usage.by_model == {MODEL: Used(jobs=1, input_tokens=21, output_tokens=8)}


async def test_stream_that_is_read_has_cost_what_its_result_says() -> None:
    """And one that failed before its first part nothing."""
    fleet, me = FakeFleet(), client()
    fleet.deltas = [Delta(text="a", num_tokens=1, num_prompt_tokens=2)]
    async for _ in AllowedFleet(fleet, me).stream(job()):
        pass
    assert me.usage.total().input_tokens == 5  # the fake's
    fleet.error = RuntimeError("broken")
    with pytest.raises(RuntimeError):
        await anext(AllowedFleet(fleet, me).stream(job()))
    assert me.usage.total().jobs == 1


async def test_jobs_are_held_to_the_key_wherever_they_come_from() -> None:
    """Also what no dialect asks today: a route that forgot to look for itself lets nobody in."""
    cases: list[tuple[dict[str, Any], JobRequest]] = [
        ({"scopes": frozenset({ADMIN})}, job()),
        ({"models": ("reviews",)}, job()),
        ({"tasks": ("fill-mask",)}, job()),
        ({"tasks": ("text-classification",)}, job("acme/labels/large", "zero-shot-classification")),
    ]
    for values, request in cases:
        fleet = FakeFleet()
        allowed = AllowedFleet(fleet, client(**values))
        with pytest.raises(Forbidden):
            await allowed.submit(request)
        with pytest.raises(Forbidden):
            await anext(allowed.stream(request))
        assert not fleet.jobs


async def test_administrator_of_some_models_touches_no_others() -> None:
    """Neither loads, nor unloads, nor gives them adapters."""
    fleet = FakeFleet()
    allowed = AllowedFleet(fleet, client(models=("reviews",), scopes=frozenset({ADMIN})))
    adapter = AdapterSpec(id="sql", path="sql")
    with pytest.raises(Forbidden):
        allowed.load("mask")
    with pytest.raises(Forbidden):
        await allowed.unload("mask")
    for pin in (allowed.pin, allowed.unpin):
        with pytest.raises(Forbidden):
            pin("mask")
    with pytest.raises(Forbidden):
        await allowed.load_adapter("mask", adapter, in_place=False)
    await fleet.load_adapter("mask", adapter, in_place=False)
    with pytest.raises(Forbidden):
        allowed.unload_adapter(fleet.get("mask").with_adapter("sql"))
    assert [one async for one in allowed.load("reviews")]
    assert (await allowed.unload("reviews")).state == "unloaded"
    assert allowed.pin("reviews").pinned and not allowed.unpin("reviews").pinned
