"""The response cache, and equal requests at the same time: on fake workers and a fake clock."""

from __future__ import annotations

import asyncio

import pytest

from app.channel.messages import JobDone, Timings
from app.errors import BackendFailed, DeadlineExceeded
from app.fairness import NOBODY
from app.fleet.admission import Permit
from app.fleet.answers import Answers, key_of
from app.fleet.jobs import Job
from app.fleet.requests import JobRequest
from app.fleet.residency import Lease
from tests.fleet.fakes import TASK, House, settle, spec_of

CACHE_BYTES = 2**20


def house(**changes: object) -> House:
    return House(spec_of("a", cache_bytes=CACHE_BYTES), **changes)  # type: ignore[arg-type]


def request(**changes: object) -> JobRequest:
    usual = {"model_id": "a", "task": TASK, "inputs": ["x"], "parameters": {}, "num_items": 1}
    return JobRequest(**{**usual, **changes})  # type: ignore[arg-type]


async def job(key: bytes) -> Job:
    permit = Permit(model_id="a", flow=NOBODY, num_items=1, num_up_to=1)
    made = Job(1, request(), Lease("a", None), permit, 0.0, 300.0)
    made.key = key
    return made


def done(*outputs: bytes) -> JobDone:
    timings = Timings(queue_s=0.0, prepare_s=0.0, forward_s=0.0, finish_s=0.0)
    return JobDone(job_id=1, outputs=list(outputs), timings=timings, batch_size=1, num_tokens=3)


async def test_an_equal_request_gets_the_kept_answer() -> None:
    """The worker sees the first alone; the second has its output and its tokens."""
    async with house(answers=True) as home:
        first = await home.answered()
        second = await home.answered()
        assert (second.outputs, second.num_tokens) == (first.outputs, first.num_tokens)
        assert home.launcher.num_answers == 1
        assert home.events.of("answer_looked_up") == [("a", "miss"), ("a", "hit")]


@pytest.mark.parametrize(
    "changes",
    [{"inputs": ["y"]}, {"inputs": ["x", "x"], "num_items": 2}, {"parameters": {"top_k": 1}}, {"media_type": "text/x"}],
)
async def test_whatever_the_answer_depends_on_is_in_the_key(changes: dict[str, object]) -> None:
    """Another input, parameter or media type is another request."""
    assert await key_of(request(**changes)) != await key_of(request())


async def test_the_order_of_parameters_does_not_matter() -> None:
    """They are a mapping."""
    one = await key_of(request(parameters={"top_k": 1, "sort": True}))
    assert one == await key_of(request(parameters={"sort": True, "top_k": 1}))


async def test_long_inputs_have_keys_too() -> None:
    """Hashed elsewhere than on the event loop, to the same end."""
    long = "x" * 2**21
    assert await key_of(request(inputs=[long])) == await key_of(request(inputs=[long]))
    assert await key_of(request(inputs=[long])) != await key_of(request(inputs=[long + "x"]))


async def test_what_may_draw_at_random_is_not_kept() -> None:
    """Two samples of one prompt are two texts."""
    assert await key_of(request(task="text-generation")) is None


async def test_equal_requests_in_flight_are_computed_once() -> None:
    """Ten clients, one job for the worker, ten answers."""
    async with house() as home:
        calls = [await home.ask() for _ in range(10)]
        await settle()
        assert len(home.launcher.of("a").jobs) == 1
        home.launcher.of("a").answer()
        results = await asyncio.gather(*calls)
        assert {result.outputs[0] for result in results} == {b'"a x"'}
        assert home.events.of("answer_looked_up").count(("a", "shared")) == 9


async def test_the_one_that_leaves_takes_nobody_with_it() -> None:
    """The client whose request is computed goes away: the next one's is computed."""
    async with house() as home:
        first, second, third = [await home.ask() for _ in range(3)]
        await settle()
        first.cancel()
        await settle()
        worker = home.launcher.of("a")
        assert len(worker.jobs) == 1
        worker.answer()
        assert (await second).outputs == (await third).outputs == [b'"a x"']


async def test_one_that_waits_for_another_may_leave() -> None:
    """The others get their answer; nothing is left over."""
    async with house() as home:
        first, second, third = [await home.ask() for _ in range(3)]
        await settle()
        second.cancel()
        await settle()
        home.launcher.of("a").answer()
        assert (await first).outputs == (await third).outputs == [b'"a x"']
        assert home.fleet.status("a").in_flight == 0


async def test_each_has_its_own_deadline() -> None:
    """One that waits for another's answer ends at its own time, and one that is computed does not end the others."""
    async with house() as home:
        slow = await home.ask(deadline_s=100.0)
        hasty = await home.ask(deadline_s=5.0)
        await settle()
        await home.advance(6.0)
        with pytest.raises(DeadlineExceeded):
            await hasty
        assert home.events.of("shed") == []
        home.launcher.of("a").answer()
        assert (await slow).outputs == [b'"a x"']

    async with house() as home:
        hasty = await home.ask(deadline_s=5.0)
        slow = await home.ask(deadline_s=100.0)
        await settle()
        await home.advance(6.0)
        with pytest.raises(DeadlineExceeded):
            await hasty
        await settle()
        home.launcher.of("a").answer()
        assert (await slow).outputs == [b'"a x"']


async def test_an_error_of_the_input_is_everybodys_and_is_not_kept() -> None:
    """Equal inputs fail alike; a later request is computed again."""
    async with house() as home:
        calls = [await home.ask() for _ in range(3)]
        await settle()
        worker = home.launcher.of("a")
        (job_id,) = worker.jobs
        worker.refuse(job_id, code="backend")
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, BackendFailed)
        again = await home.ask()
        await settle()
        worker.answer()
        assert (await again).outputs == [b'"a x"']


async def test_a_load_forgets_the_answers() -> None:
    """The files of the model may have changed."""
    async with house(answers=True) as home:
        await home.answered()
        assert home.fleet.status("a").cached_bytes > 0
        await home.fleet.unload("a")
        await home.answered(inputs=["y"])
        await home.answered()
        assert home.launcher.num_answers == 3


async def test_without_cache_equal_requests_are_all_computed() -> None:
    """Nothing is kept or shared unless the entry says so."""
    async with House() as home:
        calls = [await home.ask() for _ in range(2)]
        await settle()
        assert len(home.launcher.of("a").jobs) == 2
        home.launcher.of("a").answer()
        await asyncio.gather(*calls)
        assert home.events.of("answer_looked_up") == []


async def test_the_least_recently_used_answer_goes_first() -> None:
    """The bytes of what is kept stay within the bound; what is larger than it is not kept at all."""
    answers = Answers(3000)
    for name in (b"1", b"2"):
        one = await job(name)
        assert answers.leads(one)
        answers.answered(one, done(b"x" * 800))
        assert answers.left(one) is None
    assert answers.find(b"1") is not None
    one = await job(b"3")
    assert answers.leads(one)
    answers.answered(one, done(b"x" * 800))
    assert answers.find(b"2") is None
    assert answers.find(b"1") is not None and answers.find(b"3") is not None
    assert answers.num_bytes <= 3000
    huge = await job(b"4")
    assert answers.leads(huge)
    answers.answered(huge, done(b"x" * 3000))
    assert answers.find(b"4") is None and answers.find(b"1") is not None
