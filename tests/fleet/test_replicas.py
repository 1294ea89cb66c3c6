"""Workers that die, hang and do not start: who runs again, who is to blame, when it is given up."""

from __future__ import annotations

import asyncio

import pytest

from app.channel.messages import Heartbeat, Submit
from app.errors import ModelFailed, WorkerLost
from app.fleet.handle import describe_exit
from app.settings import Settings
from tests.fleet.fakes import FakeWorker, House, settle, spec_of


def text_of(worker: FakeWorker) -> dict[str, int]:
    """The worker's jobs by their first input."""
    return {submit.inputs[0]: job_id for job_id, submit in worker.jobs.items()}


async def ready_house(house: House) -> FakeWorker:
    """A worker that has answered."""
    await house.answered()
    return house.launcher.of("a")


async def test_a_killed_worker_loses_no_request() -> None:
    """It had answered, so it is replaced at once; jobs that it had not begun with run on the new one, together."""
    async with House() as house:
        worker = await ready_house(house)
        calls = [await house.ask(inputs=[text]) for text in "xyz"]
        worker.die(-9)
        await settle()
        replacement = house.launcher.of("a")
        assert replacement is not worker
        assert [submit.alone for submit in replacement.jobs.values()] == [False] * 3
        replacement.answer()
        results = await asyncio.gather(*calls)
        assert [result.outputs[0] for result in results] == [b'"a x"', b'"a y"', b'"a z"']
        assert house.events.of("restarted") == [("a",)]


async def test_suspects_run_again_one_by_one() -> None:
    """Alone in the worker; what waited behind them goes on afterwards."""
    async with House() as house:
        worker = await ready_house(house)
        calls = [await house.ask(inputs=[text]) for text in "wxyz"]
        ids = text_of(worker)
        worker.begin(ids["w"], ids["x"])
        worker.begin(ids["y"], stage="prepare")
        worker.die(-11)
        await settle()
        replacement = house.launcher.of("a")
        for text in "wxy":
            assert list(text_of(replacement)) == [text]
            assert next(iter(replacement.jobs.values())).alone
            replacement.answer()
            await settle()
        assert list(text_of(replacement)) == ["z"]
        assert not next(iter(replacement.jobs.values())).alone
        replacement.answer()
        assert len(await asyncio.gather(*calls)) == 4


async def test_a_job_by_itself_counts_as_begun() -> None:
    """A worker that has nothing else is not waited for to say so: its death makes the job a suspect."""
    async with House() as house:
        worker = await ready_house(house)
        worker.is_hung = True  # says nothing
        call = await house.ask(inputs=["x"])
        assert next(iter(worker.jobs.values())).has_begun
        worker.die(-11)
        await settle()
        replacement = house.launcher.of("a")
        (job,) = replacement.jobs.values()
        assert job.alone and not job.has_begun
        replacement.answer()
        await call


async def test_poison_is_found_and_its_neighbours_are_answered() -> None:
    """The job that ends its worker twice alone gets WorkerLost; the model is not FAILED for it."""
    async with House() as house:
        worker = await ready_house(house)
        calls = {text: await house.ask(inputs=[text]) for text in ("poison", "good", "fine")}
        worker.begin(*worker.jobs)
        worker.die(-11)
        for _ in range(2):
            await settle()
            worker = house.launcher.of("a")
            assert list(text_of(worker)) == ["poison"]
            worker.begin(*worker.jobs)
            worker.die(-11)
        await settle()
        with pytest.raises(WorkerLost, match="SIGSEGV"):
            await calls["poison"]
        worker = house.launcher.of("a")
        for _ in range(2):
            worker.answer()
            await settle()
        assert (await calls["good"]).outputs and (await calls["fine"]).outputs
        assert house.state() == "ready"


async def test_many_poisonous_requests_do_not_fail_the_model() -> None:
    """Deaths that a job is to blame for do not count as a worker that cannot start."""
    async with House() as house:
        worker = await ready_house(house)
        calls = [await house.ask(inputs=[text]) for text in "vwxyz"]
        while worker.jobs:
            worker.begin(*worker.jobs)
            worker.die(-11)
            await settle()
            worker = house.launcher.of("a")
        for call in calls:
            with pytest.raises(WorkerLost):
                await call
        assert (await house.answered()).outputs
        assert len(house.launcher.workers) == 1 + 1 + 2 * 5


async def test_a_death_that_was_not_the_suspects_doing_does_not_count() -> None:
    """Somebody kills the worker before the suspect has begun: it stays a suspect with nothing against it."""
    async with House() as house:
        worker = await ready_house(house)
        call = await house.ask()
        worker.begin(*worker.jobs)
        worker.die(-9)
        await settle()
        for _ in range(2):
            house.launcher.of("a").die(-9)
            await house.advance(2)
            assert next(iter(house.launcher.of("a").jobs.values())).alone
        house.launcher.of("a").answer()
        assert (await call).outputs


async def test_a_cancelled_suspect_is_forgotten() -> None:
    """Nobody waits for it, so it is not run again."""
    async with House() as house:
        worker = await ready_house(house)
        call = await house.ask()
        other = await house.ask(inputs=["y"])
        worker.begin(*worker.jobs)
        call.cancel()
        await settle()
        worker.die(-11)
        await settle()
        assert list(text_of(house.launcher.of("a"))) == ["y"]
        house.launcher.of("a").answer()
        assert (await other).outputs


async def test_a_cancelled_job_that_kills_its_worker_fails_no_model() -> None:
    """Its caller left, the worker dies of it all the same: again and again, and the model still serves."""
    async with House() as house:
        for _ in range(5):
            call = await house.ask()
            worker = house.launcher.of("a")
            worker.begin(*worker.jobs)
            call.cancel()
            await settle()
            worker.die(-11)
            await settle()
        assert (await house.answered()).outputs


async def test_a_worker_that_dies_while_loading_is_tried_three_times() -> None:
    """With back-off, then the model is FAILED and says how the last one ended; all who waited are told."""
    async with House(loads=False) as house:
        call = await house.ask()
        house.launcher.of("a").die(-9)
        await house.advance(0.4)
        assert house.launcher.alive == []
        await house.advance(0.2)
        house.launcher.of("a").die(-9)
        await house.advance(0.9)
        assert house.launcher.alive == []
        await house.advance(0.2)
        house.launcher.of("a").die(-9)
        await house.advance(60)
        assert len(house.launcher.workers) == 3
        with pytest.raises(ModelFailed, match=r"the process was killed by SIGKILL \(out of memory\?\)"):
            await call
        assert house.state() == "failed"
        assert house.events.of("load_finished") == [("a", "failed")]


async def test_a_worker_that_dies_before_its_first_answer_is_not_replaced_for_ever() -> None:
    """Ready is not enough: it must answer. What no job is to blame for counts."""
    async with House() as house:
        call = await house.ask()
        for _ in range(3):
            house.launcher.of("a").die(1)
            await house.advance(2)
        with pytest.raises(ModelFailed, match="exit code 1"):
            await call


async def test_an_answer_ends_the_count_of_failures() -> None:
    """Two deaths, an answer, two deaths: still alive."""
    async with House() as house:
        for _ in range(3):
            call = await house.ask()
            for _ in range(2):
                house.launcher.of("a").die(1)
                await house.advance(2)
            house.launcher.of("a").answer()
            assert (await call).outputs


async def test_a_launch_that_fails_is_tried_again() -> None:
    """The system may have room for a process a moment later."""
    async with House() as house:
        house.launcher.errors.append(ModelFailed("no process"))
        call = await house.ask()
        await house.advance(1)
        house.launcher.of("a").answer()
        assert (await call).outputs


async def test_a_silent_worker_is_killed() -> None:
    """Ten seconds without a heartbeat; its jobs run on another."""
    async with House() as house:
        worker = await ready_house(house)
        call = await house.ask()
        await house.advance(30)
        assert worker.is_alive
        worker.is_hung = True
        await house.advance(8)
        assert worker.is_alive
        await house.advance(3)
        assert not worker.is_alive
        house.launcher.of("a").answer()
        assert (await call).outputs


async def test_a_silent_load_has_longer() -> None:
    """Sixty seconds."""
    async with House(loads=False) as house:
        await house.ask()
        worker = house.launcher.of("a")
        worker.is_hung = True
        await house.advance(58)
        assert worker.is_alive
        await house.advance(3)
        assert not worker.is_alive


async def test_a_forward_that_hangs_is_killed_though_the_heart_beats() -> None:
    """After its limit; only the jobs of that forward are suspects."""
    async with House() as house:
        worker = await ready_house(house)
        slow, other = await house.ask(inputs=["slow"]), await house.ask(inputs=["other"])
        ids = text_of(worker)
        worker.begin(ids["slow"])
        worker.begin(ids["other"], stage="prepare")
        await settle()
        await house.advance(58)
        assert worker.is_alive
        await house.advance(3)
        assert not worker.is_alive
        worker = house.launcher.of("a")
        assert worker.jobs[ids["slow"]].alone
        worker.answer()
        await settle()
        assert not worker.jobs[ids["other"]].alone
        worker.answer()
        await asyncio.gather(slow, other)


async def test_an_idle_worker_is_in_no_stage() -> None:
    """A forward that has ended has no limit."""
    async with House() as house:
        worker = await ready_house(house)
        await house.ask()
        worker.begin(*worker.jobs)
        worker.begin()
        await house.advance(200)
        assert worker.is_alive


async def test_a_stall_of_this_process_kills_no_worker() -> None:
    """When the timers come late, what waits in the sockets is read before anybody is judged."""
    async with House() as house:
        worker = await ready_house(house)
        house.clock._now += 100.0
        await house.clock.advance(0.05)
        worker.beat()
        await settle()
        await house.advance(20)
        assert worker.is_alive


async def test_a_replaced_model_takes_requests_meanwhile() -> None:
    """They wait for the replacement as for a load."""
    async with House() as house:
        worker = await ready_house(house)
        house.launcher.loads = False
        worker.die(-9)
        await settle()
        assert house.state() == "loading"
        call = await house.ask()
        house.launcher.of("a").be_ready()
        await settle()
        house.launcher.of("a").answer()
        assert (await call).outputs


async def test_the_next_process_waits_for_the_last_to_be_reaped() -> None:
    """Its bytes are not back before."""
    async with House() as house:
        worker = await ready_house(house)
        worker.reaps_slowly = True
        worker.die(-9)
        await settle()
        assert house.launcher.alive == []
        worker.reap()
        await settle()
        assert len(house.launcher.alive) == 1


async def test_a_worker_that_does_not_stop_is_killed() -> None:
    """Unloading does not wait for ever."""
    async with House() as house:
        worker = await ready_house(house)
        worker.is_hung = True
        unloading = asyncio.create_task(house.fleet.unload("a"))
        await house.advance(15)
        assert (await unloading).state == "unloaded"


async def test_one_of_two_replicas_dies() -> None:
    """The other takes all that was not suspect; the model stays ready."""
    async with House(spec_of("a", replicas=2)) as house:
        calls = [await house.ask(inputs=[text]) for text in "xy"]
        first, second = house.launcher.alive
        house.launcher.loads = False
        first.die(-9)
        await settle()
        assert house.state() == "ready"
        assert len(second.jobs) == 2
        second.answer()
        assert len(await asyncio.gather(*calls)) == 2


async def test_a_replica_that_cannot_load_is_done_without() -> None:
    """As long as another one answers."""
    async with House(spec_of("a", replicas=2), loads=False) as house:
        call = await house.ask()
        first, second = house.launcher.alive
        first.be_ready()
        second.fail_load("out_of_memory", "no room")
        await settle()
        first.answer()
        assert (await call).outputs
        assert house.fleet.status("a").replicas == 1


async def test_workers_get_the_grant_with_their_load() -> None:
    """And SetThreads when it changes: two that compute share what one had."""
    async with House(spec_of("a"), spec_of("b"), spec_of("c", threads=3), cores=9) as house:
        await house.ask("a")
        await house.ask("b")
        assert house.launcher.of("a").threads == [8, 4]
        assert house.launcher.of("b").threads == [4]
        await house.ask("c")
        assert house.launcher.of("c").threads == [3]
        assert house.launcher.of("a").threads == [8, 4, 2]


async def test_a_submit_carries_the_request() -> None:
    """Inputs and parameters as they came."""
    async with House() as house:
        await house.ask(inputs=[{"text": "x"}], parameters={"top_k": 2})
        (submit,) = house.launcher.of("a").jobs.values()
        assert isinstance(submit, Submit)
        assert (submit.inputs, submit.parameters) == ([{"text": "x"}], {"top_k": 2})


async def test_limits_are_settings() -> None:
    """An operator may be more patient, or less."""
    async with House(settings=Settings(forward_timeout_s=5)) as house:
        worker = await ready_house(house)
        await house.ask()
        worker.begin(*worker.jobs)
        await house.advance(6)
        assert not worker.is_alive


def test_ends_are_sentences() -> None:
    """Signals by name, codes as numbers."""
    assert describe_exit(-9) == "the process was killed by SIGKILL (out of memory?)"
    assert describe_exit(-11) == "the process was killed by SIGSEGV"
    assert describe_exit(-99) == "the process was killed by signal 99"
    assert describe_exit(3) == "the process ended with exit code 3"


async def test_worker_that_outgrows_its_limit_is_replaced_when_it_has_answered() -> None:
    """What it has it answers, what comes later waits for the next one; nothing is computed twice."""
    async with House(spec_of("a", memory_limit_bytes=1000)) as house:
        worker = await ready_house(house)
        first = await house.ask(inputs=["x"])
        worker.say(Heartbeat(rss_bytes=1000))
        await settle()
        second = await house.ask(inputs=["y"])
        assert set(text_of(worker)) == {"x", "y"}
        worker.say(Heartbeat(rss_bytes=1001))
        await settle()
        third = await house.ask(inputs=["z"])
        assert set(text_of(worker)) == {"x", "y"} and worker.is_alive
        worker.answer()
        await settle()
        replacement = house.launcher.of("a")
        assert replacement is not worker
        assert set(text_of(replacement)) == {"z"}
        replacement.answer()
        assert len(await asyncio.gather(first, second, third)) == 3
        assert house.events.of("restarted") == [("a",)]


async def test_worker_that_outgrows_its_limit_at_rest_is_replaced_at_once() -> None:
    """And one that does so before it has answered anything counts as one that cannot start."""
    async with House(spec_of("a", memory_limit_bytes=1000)) as house:
        worker = await ready_house(house)
        for _ in range(3):
            worker.say(Heartbeat(rss_bytes=2000))
            await settle()
            await house.clock.advance(2)
            assert not worker.is_alive
            worker = house.launcher.of("a")
        worker.say(Heartbeat(rss_bytes=2000))
        await settle()
        with pytest.raises(ModelFailed, match="2.0 KiB, beyond its memory_limit of 1000 bytes"):
            await (await house.ask())


async def test_client_that_leaves_lets_a_retired_worker_go() -> None:
    """Its job was the last."""
    async with House(spec_of("a", memory_limit_bytes=1000)) as house:
        worker = await ready_house(house)
        call = await house.ask()
        worker.say(Heartbeat(rss_bytes=2000))
        await settle()
        assert worker.is_alive
        call.cancel()
        await settle()
        assert not worker.is_alive
