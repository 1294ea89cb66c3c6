"""The fleet on fake workers and a fake clock: loading, waiting, time limits, cancelling, draining."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from app.catalog import ModelSpec, QueueSpec
from app.channel.messages import InputsDone, Progress
from app.errors import (
    DeadlineExceeded,
    Draining,
    InputTooLarge,
    InvalidInput,
    ModelFailed,
    ModelLoading,
    NotAvailable,
    NotServed,
    Overloaded,
    Unavailable,
)
from app.fleet.requests import DeviceUse, ModelStatus
from app.settings import Settings
from tests.fleet.fakes import TASK, House, settle, spec_of


async def follow(house: House, model_id: str = "a") -> list[Progress | ModelStatus]:
    return [item async for item in house.fleet.load(model_id)]


async def test_the_first_request_loads_the_model() -> None:
    """Nothing is loaded before; the answer is the worker's."""
    async with House() as house:
        assert house.launcher.workers == []
        result = await house.answered(inputs=["x", "y"])
        assert result.outputs == [b'"a x"', b'"a y"']
        assert house.events.of("load_finished") == [("a", "ready")]
        assert house.events.of("job_done") == [("a", TASK)]


async def test_one_load_serves_all_that_wait() -> None:
    """Single flight: ten requests, one worker."""
    async with House(loads=False) as house:
        calls = [await house.ask() for _ in range(10)]
        (worker,) = house.launcher.workers
        assert house.state() == "loading"
        assert worker.jobs == {}
        worker.be_ready()
        await settle()
        assert len(worker.jobs) == 10
        worker.answer()
        assert len(await asyncio.gather(*calls)) == 10


async def test_times_count_all_waiting() -> None:
    """The load's time is queueing, as is the wait in the worker."""
    async with House(loads=False) as house:
        call = await house.ask()
        await house.advance(3)
        house.launcher.of("a").be_ready()
        await settle()
        await house.advance(2)
        house.launcher.of("a").answer()
        result = await call
        assert result.load_wait_s == pytest.approx(3)
        assert result.timings.queue_s == pytest.approx(3 + 0.25)
        assert result.total_s == pytest.approx(5)


async def test_who_does_not_wait_is_told_when_to_come_back() -> None:
    """ModelLoading with a Retry-After, and the load begins for the next one."""
    async with House(loads=False) as house:
        with pytest.raises(ModelLoading) as raised:
            await (await house.ask(wait_for_load=False))
        assert raised.value.retry_after_s is not None and raised.value.retry_after_s >= 1
        house.launcher.of("a").be_ready()
        await settle()
        assert (await house.answered(wait_for_load=False)).outputs == [b'"a x"']


async def test_a_held_request_ends_at_its_deadline() -> None:
    """While the model loads: 504, and the load goes on for the next one."""
    async with House(loads=False) as house:
        call = await house.ask(deadline_s=5)
        await house.advance(5.5)
        with pytest.raises(DeadlineExceeded, match="still loading"):
            await call
        assert house.state() == "loading"
        assert house.fleet.status("a").in_flight == 0


async def test_a_running_job_ends_at_its_deadline() -> None:
    """The worker is told, and the answer that comes too late is dropped."""
    async with House() as house:
        call = await house.ask(deadline_s=5)
        worker = house.launcher.of("a")
        (job_id,) = worker.jobs
        submit = worker.jobs[job_id]
        await house.advance(5.5)
        with pytest.raises(DeadlineExceeded, match="no answer"):
            await call
        assert worker.cancelled == [job_id]
        worker.jobs[job_id] = submit
        worker.answer(job_id)
        await settle()
        assert (await house.answered()).outputs


async def test_a_deadline_is_reached_whatever_the_rounding() -> None:
    """A timer that fires exactly at its time ends the request, and is not set again for ever."""
    async with House() as house:
        await house.advance(0.1)
        calls = [await house.ask(deadline_s=0.1 * number) for number in range(1, 30)]
        await house.advance(4)
        for call in calls:
            with pytest.raises(DeadlineExceeded):
                await call


async def test_the_models_deadline_is_the_default() -> None:
    """`queue.deadline` of the entry."""
    async with House(spec_of("a", queue=QueueSpec(deadline_s=7))) as house:
        call = await house.ask()
        await house.advance(6)
        assert not call.done()
        await house.advance(2)
        with pytest.raises(DeadlineExceeded):
            await call


async def test_a_load_is_not_waited_for_longer_than_the_setting() -> None:
    """`load_wait_s` shortens the wait for a load, not the time for an answer."""
    async with House(loads=False, settings=Settings(load_wait_s=5)) as house:
        loading = await house.ask()
        await house.advance(4)
        house.launcher.of("a").be_ready()
        await settle()
        await house.advance(20)
        assert not loading.done()
        house.launcher.of("a").answer()
        await loading


async def test_a_cancelled_call_cancels_its_job() -> None:
    """In the worker, and its permits are free."""
    async with House() as house:
        call = await house.ask()
        worker = house.launcher.of("a")
        (job_id,) = worker.jobs
        call.cancel()
        await settle()
        assert call.cancelled()
        assert worker.cancelled == [job_id]
        assert house.fleet.status("a").in_flight == 0
        assert house.events.of("job_failed") == [("a", TASK, "cancelled")]


async def test_a_cancellation_is_never_lost() -> None:
    """Not even when the answer comes in the same turn."""
    async with House() as house:
        call = await house.ask()
        house.launcher.of("a").answer()
        for _ in range(2):
            await asyncio.sleep(0)
        call.cancel()
        await settle()
        assert call.cancelled() or call.result().outputs
        assert house.fleet.status("a").in_flight == 0


async def test_a_call_cancelled_while_loading_leaves_nothing() -> None:
    """The load goes on; the job never reaches the worker."""
    async with House(loads=False) as house:
        call = await house.ask()
        call.cancel()
        await settle()
        house.launcher.of("a").be_ready()
        await settle()
        assert house.state() == "ready"
        assert house.launcher.of("a").jobs == {}


async def test_a_workers_error_is_the_jobs() -> None:
    """With its class and the parameter that it names."""
    async with House() as house:
        call = await house.ask()
        worker = house.launcher.of("a")
        worker.refuse(next(iter(worker.jobs)))
        with pytest.raises(InvalidInput) as raised:
            await call
        assert raised.value.param == "inputs[0]"
        assert house.events.of("job_failed") == [("a", TASK, "validation")]


async def test_a_full_queue_refuses() -> None:
    """429 with a Retry-After; all permits of a request or none."""
    async with House(spec_of("a", queue=QueueSpec(max_items=4))) as house:
        held = await house.ask(inputs=["x"] * 3)
        with pytest.raises(Overloaded) as raised:
            await (await house.ask(inputs=["x"] * 2))
        assert raised.value.retry_after_s is not None and raised.value.retry_after_s > 0
        assert house.fleet.status("a").in_flight == 3
        assert house.events.of("rejected") == [("a", "model_queue")]
        house.launcher.of("a").answer()
        await held
        await house.answered(inputs=["x"] * 4)


async def test_the_total_queue_refuses_too() -> None:
    """The sum over models has its own limit."""
    async with House(spec_of("a"), spec_of("b"), max_queue_items=4) as house:
        await house.ask("a", inputs=["x"] * 3)
        with pytest.raises(Overloaded):
            await (await house.ask("b", inputs=["x"] * 2))
        assert house.events.of("rejected") == [("b", "total_queue")]


async def test_a_key_that_floods_leaves_places_for_others() -> None:
    """Each is told whose fault it is: the flood that it has its share."""
    async with House(spec_of("a", queue=QueueSpec(max_items=8))) as house:
        for _ in range(7):
            await house.ask(client="flood")
        with pytest.raises(Overloaded, match="clients that have less than their share"):
            await (await house.ask(client="flood"))
        polite = await house.ask(client="polite")
        assert house.events.of("rejected") == [("a", "client_share")]
        house.launcher.of("a").answer()
        await polite


async def test_a_model_that_is_flooded_leaves_places_for_others() -> None:
    """One of high priority may have more."""
    async with House(spec_of("a"), spec_of("b", priority=1), max_queue_items=16) as house:
        for _ in range(14):
            await house.ask("a")
        with pytest.raises(Overloaded, match="models that have less than their share"):
            await (await house.ask("a"))
        assert house.events.of("rejected") == [("a", "model_share")]
        await house.ask("b", inputs=["x"] * 2)
        assert house.fleet.status("b").in_flight == 2


async def test_permits_are_free_as_inputs_are_answered() -> None:
    """The rest when the request ends; answers to jobs that nobody waits for free nothing."""
    async with House(spec_of("a", queue=QueueSpec(max_items=4))) as house:
        call = await house.ask(inputs=["x"] * 4)
        worker = house.launcher.of("a")
        (job_id,) = worker.jobs
        worker.say(InputsDone(num_inputs={job_id: 3, job_id + 1: 9}))
        await settle()
        assert house.fleet.status("a").in_flight == 1
        await house.ask(inputs=["x"] * 3)
        worker.answer(job_id)
        await call
        assert house.fleet.status("a").in_flight == 3


async def test_what_would_wait_longer_than_the_model_allows_is_refused() -> None:
    """`queue.max_wait`, by what those before it waited; an idle model refuses nobody."""
    async with House(spec_of("a", queue=QueueSpec(max_wait_s=2))) as house:
        calls = [await house.ask() for _ in range(3)]
        house.launcher.of("a").answer(wait_s=5)
        await asyncio.gather(*calls)
        assert house.fleet.status("a").wait_s == pytest.approx(5)
        await house.ask()
        with pytest.raises(Overloaded, match="about 5 s; at most 2 s are waited for") as raised:
            await (await house.ask())
        assert raised.value.retry_after_s == pytest.approx(3)
        assert house.events.of("rejected") == [("a", "max_wait")]


async def test_what_would_begin_after_its_deadline_is_refused() -> None:
    """Unless `max_wait` says otherwise; who has more time is let in."""
    async with House(spec_of("a")) as house:
        calls = [await house.ask() for _ in range(3)]
        house.launcher.of("a").answer(wait_s=5)
        await asyncio.gather(*calls)
        await house.ask()
        with pytest.raises(Overloaded, match="about 5 s; at most 4 s"):
            await (await house.ask(deadline_s=4))
        await house.ask(deadline_s=6)


async def test_a_job_says_whose_it_is_and_how_long_it_may_take() -> None:
    """The worker lets others pass it, and does not begin with it when nobody waits any more."""
    async with House() as house:
        await house.ask(client="key", priority=1, weight=2.0, deadline_s=9)
        (submit,) = house.launcher.of("a").jobs.values()
        assert (submit.flow, submit.weight) == (("key", 1), 16.0)
        assert submit.time_left_s == pytest.approx(9)


async def test_what_waited_for_the_load_has_less_time_left() -> None:
    """Its deadline began with its arrival."""
    async with House(loads=False) as house:
        await house.ask(deadline_s=9)
        await house.advance(4)
        house.launcher.of("a").be_ready()
        await settle()
        (submit,) = house.launcher.of("a").jobs.values()
        assert submit.time_left_s == pytest.approx(5)


async def test_what_is_late_before_it_is_begun_is_counted_as_shed() -> None:
    """Whether the worker says so or the fleet; what was being computed is late and no more."""
    async with House() as house:
        told, waiting, computed = [await house.ask(deadline_s=5) for _ in range(3)]
        worker = house.launcher.of("a")
        first, _, last = worker.jobs
        worker.begin(last)
        worker.refuse(first, DeadlineExceeded.code)
        await house.advance(6)
        for call in (told, waiting, computed):
            with pytest.raises(DeadlineExceeded):
                await call
        assert house.events.of("shed") == [("a",), ("a",)]


async def test_a_request_larger_than_the_queue_is_too_large() -> None:
    """413 with the limit: waiting would not help."""
    async with House(spec_of("a", queue=QueueSpec(max_items=4))) as house:
        with pytest.raises(InputTooLarge, match="at most 4"):
            await (await house.ask(inputs=["x"] * 5))


async def test_a_model_that_cannot_load_is_failed_with_its_reason() -> None:
    """Everyone who waited is told, later ones are refused at the door, the others serve."""
    async with House(spec_of("a"), spec_of("b"), loads=False) as house:
        calls = [await house.ask("a") for _ in range(2)]
        house.launcher.of("a").fail_load("model_failed", "its weights are broken")
        await settle()
        for call in (*calls, await house.ask("a")):
            with pytest.raises(ModelFailed, match="its weights are broken"):
                await call
        status = house.fleet.status("a")
        assert (status.state, status.reason) == ("failed", "its weights are broken")
        assert house.events.of("rejected") == [("a", "failed")]
        assert house.events.of("load_finished") == [("a", "failed")]
        other = await house.ask("b")
        house.launcher.of("b").be_ready()
        await settle()
        house.launcher.of("b").answer()
        await other


async def test_a_missing_library_stays_not_available() -> None:
    """501 says more than 503."""
    async with House(loads=False) as house:
        call = await house.ask()
        house.launcher.of("a").fail_load("not_available", "pandas is missing")
        with pytest.raises(NotAvailable, match="pandas"):
            await call


async def test_a_failed_model_can_be_loaded_by_hand() -> None:
    """An explicit load tries again."""
    async with House(loads=False) as house:
        call = await house.ask()
        house.launcher.of("a").fail_load("model_failed")
        with pytest.raises(ModelFailed):
            await call
        loading = asyncio.create_task(follow(house))
        await settle()
        house.launcher.of("a").be_ready()
        last = (await loading)[-1]
        assert isinstance(last, ModelStatus)
        assert last.state == "ready"
        assert last.reason is None
        assert (await house.answered()).outputs


async def test_progress_reaches_every_listener() -> None:
    """Two follow one load; each gets the steps and the READY status last."""
    async with House(loads=False) as house:
        first = asyncio.create_task(follow(house))
        await settle()
        worker = house.launcher.of("a")
        worker.say(Progress(phase="download", done=1, total=2))
        await settle()
        second = asyncio.create_task(follow(house))
        await settle()
        worker.be_ready()
        for items in await asyncio.gather(first, second):
            assert items[:-1] == [Progress(phase="download", done=1, total=2), Progress(phase="load")]
            assert isinstance(items[-1], ModelStatus) and items[-1].state == "ready"
        assert len(house.launcher.workers) == 1


async def test_a_failing_load_ends_its_listeners() -> None:
    """With the reason."""
    async with House(loads=False) as house:
        loading = asyncio.create_task(follow(house))
        await settle()
        house.launcher.of("a").fail_load("model_failed", "no such folder")
        with pytest.raises(ModelFailed, match="no such folder"):
            await loading


async def test_loading_a_ready_model_gives_its_status() -> None:
    """And nothing else."""
    async with House() as house:
        await house.answered()
        (status,) = await follow(house)
        assert isinstance(status, ModelStatus) and status.num_parameters == 7


async def test_unload_ends_the_worker_after_its_jobs() -> None:
    """Running jobs are answered; a request that comes meanwhile has the model loaded again."""
    async with House() as house:
        running = await house.ask()
        first = house.launcher.of("a")
        unloading = asyncio.create_task(house.fleet.unload("a"))
        await settle()
        assert house.state() == "unloading"
        later = await house.ask()
        assert len(first.jobs) == 1
        first.answer()
        await running
        await unloading
        assert not first.is_alive
        await settle()
        second = house.launcher.of("a")
        second.answer()
        assert (await later).outputs
        assert house.events.of("evicted") == [("a", "request")]


async def test_unload_breaks_off_a_load_that_nobody_waits_for() -> None:
    """Its listeners are told."""
    async with House(loads=False) as house:
        loading = asyncio.create_task(follow(house))
        await settle()
        assert (await house.fleet.unload("a")).state == "unloaded"
        with pytest.raises(Unavailable, match="unloaded"):
            await loading
        assert house.launcher.alive == []


async def test_unload_of_an_unloaded_model_does_nothing() -> None:
    """It has happened already."""
    async with House() as house:
        assert (await house.fleet.unload("a")).state == "unloaded"


async def test_preload_loads_at_start() -> None:
    """In the background, and only where it is declared."""
    async with House(spec_of("a", preload=True), spec_of("b")) as house:
        assert (house.state("a"), house.state("b")) == ("ready", "unloaded")


async def test_draining_refuses_and_finishes() -> None:
    """New requests are refused with Draining, running ones are answered."""
    async with House() as house:
        running = await house.ask()
        draining = asyncio.create_task(house.fleet.drain(30))
        await settle()
        assert not house.fleet.is_accepting
        with pytest.raises(Draining) as raised:
            await (await house.ask())
        assert raised.value.retry_after_s
        with pytest.raises(Draining):
            await follow(house)
        assert not draining.done()
        house.launcher.of("a").answer()
        await running
        await draining
        assert house.events.of("rejected") == [("a", "draining")]


async def test_draining_has_a_limit() -> None:
    """A job that does not end in time does not keep the server."""
    async with House() as house:
        running = await house.ask()
        draining = asyncio.create_task(house.fleet.drain(30))
        await house.advance(31)
        assert draining.done()
        await house.fleet.stop()
        with pytest.raises(Draining):
            await running


async def test_stop_ends_everything() -> None:
    """Workers, loads and their waiters; and a second stop is harmless."""
    async with House(spec_of("a"), spec_of("b"), loads=False) as house:
        calls = [await house.ask("a"), await house.ask("b")]
        house.launcher.of("a").be_ready()
        following = asyncio.create_task(follow(house, "b"))
        await settle()
        await asyncio.gather(house.fleet.stop(), house.fleet.stop())
        await house.fleet.stop()
        for call in calls:
            with pytest.raises(Draining):
                await call
        with pytest.raises(Draining):
            await following
        assert house.launcher.alive == []
        assert house.launcher.is_stopped
        assert house.events.of("evicted") == [("a", "shutdown")]


async def test_an_unresolved_entry_is_resolved_in_the_background() -> None:
    """Its tasks are known afterwards, and it is not loaded."""

    async def resolve(spec: ModelSpec) -> ModelSpec:
        return msgspec.structs.replace(spec, tasks=(TASK,))

    async with House(spec_of("a", tasks=()), resolver=resolve) as house:
        assert house.state() == "unloaded"
        assert house.fleet.find(TASK, None).id == "a"
        assert house.launcher.workers == []


async def test_a_request_waits_for_its_entry_to_be_resolved() -> None:
    """Then for its load; a task that it does not serve is a 404."""
    gate = asyncio.Event()

    async def resolve(spec: ModelSpec) -> ModelSpec:
        await gate.wait()
        return msgspec.structs.replace(spec, tasks=(TASK,))

    async with House(spec_of("a", tasks=()), resolver=resolve) as house:
        assert house.state() == "unresolved"
        right, wrong = await house.ask(), await house.ask(task="fill-mask")
        gate.set()
        await settle()
        house.launcher.of("a").answer()
        assert (await right).outputs
        with pytest.raises(NotServed, match="it serves text-classification"):
            await wrong


async def test_an_entry_that_cannot_be_resolved_is_failed() -> None:
    """With the resolver's sentence; an explicit load asks it again."""
    answers: list[Exception | ModelSpec] = [ModelFailed("the Hub cannot be reached"), spec_of("a")]

    async def resolve(spec: ModelSpec) -> ModelSpec:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with House(spec_of("a", tasks=()), resolver=resolve) as house:
        assert house.fleet.status("a").reason == "the Hub cannot be reached"
        with pytest.raises(ModelFailed, match="Hub"):
            await (await house.ask())
        assert isinstance((await follow(house))[-1], ModelStatus)
        assert (await house.answered()).outputs


async def test_a_broken_resolver_answers_everyone() -> None:
    """An exception that nobody planned for is a FAILED entry as well."""

    async def resolve(spec: ModelSpec) -> ModelSpec:
        raise ZeroDivisionError

    async with House(spec_of("a", tasks=()), resolver=resolve) as house:
        with pytest.raises(ModelFailed, match="cannot be found out"):
            await (await house.ask())


async def test_without_a_resolver_the_task_must_be_declared() -> None:
    """The entry is FAILED and says so."""
    async with House(spec_of("a", tasks=())) as house:
        assert "declare `task:`" in (house.fleet.status("a").reason or "")


async def test_an_entry_with_a_problem_is_failed_from_the_start() -> None:
    """And is looked at anew when it is loaded by hand."""
    async with House(spec_of("a", problem="there is no such folder")) as house:
        assert house.fleet.status("a").reason == "there is no such folder"
        with pytest.raises(ModelFailed, match="no such folder"):
            await (await house.ask())
        last = (await follow(house))[-1]
        assert isinstance(last, ModelStatus) and last.state == "ready"


async def test_find_knows_ids_aliases_and_defaults() -> None:
    """No name, and the names that clients send who have none, mean the first that serves the task."""
    specs = (
        spec_of("m", tasks=("fill-mask",)),
        spec_of("a", aliases=("alias",), implied_tasks=("text-ranking",)),
        spec_of("b", aliases=("m",), implied_tasks=("token-classification",)),
        spec_of("names", tasks=("token-classification",)),
    )
    async with House(*specs) as house:
        find = house.fleet.find
        assert find("token-classification", None).id == "names", "who declares a task goes before who implies it"
        assert find(TASK, "b").id == "b"
        assert find(TASK, "alias").id == "a"
        assert find("text-ranking", None).id == "a"
        assert find("fill-mask", "m").id == "m"
        for name in (None, "", "dummy", "tgi", "http://127.0.0.1:8000/v1"):
            assert find(TASK, name).id == "a"


async def test_find_says_what_is_served() -> None:
    """Which models there are, what a model serves, which tasks are served."""
    async with House(spec_of("a"), spec_of("b", tasks=("fill-mask",))) as house:
        with pytest.raises(NotServed, match='no model "c" here; there is a, b'):
            house.fleet.find(TASK, "c")
        with pytest.raises(NotServed, match='"b" does not serve text-classification; it serves fill-mask'):
            house.fleet.find(TASK, "b")
        with pytest.raises(NotServed, match="what is served: text-classification, fill-mask"):
            house.fleet.find("question-answering", None)
        with pytest.raises(NotServed):
            house.fleet.status("c")
        with pytest.raises(NotServed):
            await (await house.ask("a", task="fill-mask"))


async def test_a_model_called_like_a_default_is_found() -> None:
    """A declared name is a name."""
    async with House(spec_of("a"), spec_of("dummy")) as house:
        assert house.fleet.find(TASK, "dummy").id == "dummy"


async def test_a_status_says_what_the_worker_said() -> None:
    """Device, memory, and what is in flight and waits."""
    async with House(sizes={"a": 5}) as house:
        await house.ask(inputs=["x", "y"])
        await house.ask(inputs=["z"])
        worker = house.launcher.of("a")
        worker.begin(next(iter(worker.jobs)))
        worker.batch()
        await settle()
        (status,) = house.fleet.statuses()
        assert (status.state, status.device, status.dtype, status.memory_bytes) == ("ready", "cpu", "float32", 5)
        assert (status.in_flight, status.queued, status.replicas) == (3, 1, 1)
        assert status.loaded_at is not None
        assert house.events.of("batch_done") == [("a", 1)]
        worker.answer()
        await asyncio.gather(*house.calls)
        assert house.fleet.status("a").last_used_at is not None


async def test_devices_say_what_models_have_of_their_budget() -> None:
    """Nothing before they are measured; a load has its bytes from its start on."""
    house = House(sizes={"a": 5}, budget=9, loads=False)
    assert house.fleet.device_uses() == []
    async with house:
        assert house.fleet.device_uses() == [DeviceUse(device="cpu", budget_bytes=9, used_bytes=0)]
        await house.ask()
        assert house.fleet.device_uses() == [DeviceUse(device="cpu", budget_bytes=9, used_bytes=5)]


async def test_a_status_says_when_the_model_will_be_unloaded() -> None:
    """As long as nobody uses it, by the keep_alive of its last request."""
    async with House(spec_of("a", keep_alive_s=60), spec_of("b", keep_alive_s=-1)) as house:
        call = await house.ask(keep_alive_s=20)
        assert house.fleet.status("a").unloads_at is None
        house.launcher.of("a").answer()
        await call
        assert house.fleet.status("a").unloads_at == pytest.approx(house.clock.unix_time() + 20)
        await house.answered("b")
        assert house.fleet.status("b").unloads_at is None
        assert [one.spec.id for one in house.fleet.statuses(("ready", "failed"))] == ["a", "b"]
        assert house.fleet.statuses(("unloaded",)) == []


async def test_a_measured_size_is_kept() -> None:
    """For the next run of the server."""
    async with House(sizes={"a": 123}) as house:
        await house.answered()
        assert house.memory.kept == {"a": 123}


async def test_replicas_share_the_work() -> None:
    """The one with the least outstanding items gets the next job."""
    async with House(spec_of("a", replicas=2)) as house:
        await house.ask(inputs=["x"] * 3)
        for _ in range(3):
            await house.ask()
        assert sorted(len(worker.jobs) for worker in house.launcher.alive) == [1, 3]
        assert house.fleet.status("a").replicas == 2


async def test_cancelled_work_is_not_outstanding() -> None:
    """The replica that it leaves is the one with the least to do."""
    async with House(spec_of("a", replicas=2)) as house:
        large = await house.ask(inputs=["x"] * 3)
        for _ in range(2):
            await house.ask()
        large.cancel()
        await settle()
        await house.ask()
        assert sorted(len(worker.jobs) for worker in house.launcher.alive) == [1, 2]


async def test_values_that_the_channel_cannot_carry_are_the_jobs_error() -> None:
    """Nothing else is harmed."""
    async with House() as house:
        await house.answered()
        worker = house.launcher.of("a")
        hear = worker.hear

        def refuse(message: object) -> None:
            raise InvalidInput("an integer is too large")

        worker.hear = refuse  # type: ignore[method-assign]
        with pytest.raises(InvalidInput, match="too large"):
            await (await house.ask())
        worker.hear = hear  # type: ignore[method-assign]
        assert (await house.answered()).outputs
