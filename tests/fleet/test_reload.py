"""Another catalogue while the fleet serves: on fake workers and a fake clock."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from app.catalog import AdapterSpec, ModelSpec, QueueSpec
from app.channel.messages import DropAdapter
from app.errors import Draining, ModelFailed, NotServed, Overloaded
from app.fleet.requests import Reloaded
from tests.fleet.fakes import House, settle, spec_of

A, B = spec_of("a", keep_alive_s=-1), spec_of("b", keep_alive_s=-1)
OTHER_A = msgspec.structs.replace(A, model="another")


def is_told(reloaded: Reloaded) -> tuple[list[str], list[str], list[str], int]:
    return reloaded.added, reloaded.changed, reloaded.removed, reloaded.num_unchanged


async def test_the_same_catalogue_changes_nothing() -> None:
    """Loaded models stay, with the workers that they have."""
    async with House(A, B) as house:
        await house.answered("a")
        worker = house.launcher.of("a")
        assert is_told(await house.reload(A, B)) == ([], [], [], 2)
        assert house.launcher.of("a") is worker
        assert house.state("a") == "ready"


async def test_an_added_model_is_served() -> None:
    """In the order of the file: it answers its task if it stands first."""
    async with House(A, answers=True) as house:
        assert is_told(await house.reload(B, A)) == (["b"], [], [], 1)
        assert (await house.answered("b")).outputs == [b'"b x"']
        assert [status.spec.id for status in house.fleet.statuses()] == ["b", "a"]
        assert house.fleet.find("text-classification", None).id == "b"
        assert house.events.of("declared") == [("b",)]


async def test_an_added_model_is_preloaded_where_it_says_so() -> None:
    """As at the start; so is one that says so only now."""
    async with House(A) as house:
        await house.reload(msgspec.structs.replace(A, preload=True), msgspec.structs.replace(B, preload=True))
        assert (house.state("a"), house.state("b")) == ("ready", "ready")


async def test_what_workers_do_not_know_counts_at_once() -> None:
    """Aliases, parameters, queue: no worker is replaced, no job interrupted."""
    async with House(A) as house:
        running = await house.ask("a")
        worker = house.launcher.of("a")
        changed = msgspec.structs.replace(A, aliases=("al",), parameters={"top_k": 1}, queue=QueueSpec(max_items=1))
        assert is_told(await house.reload(changed)) == ([], ["a"], [], 0)
        assert house.fleet.get("al").parameters == {"top_k": 1}
        with pytest.raises(Overloaded):
            await (await house.ask("al"))
        worker.answer()
        assert (await running).outputs
        assert house.launcher.of("a") is worker


async def test_keep_alive_counts_for_the_model_that_is_idle_now() -> None:
    """It is unloaded after the new time, and stays when it is pinned meanwhile."""
    async with House(A) as house:
        await house.answered("a")
        await house.reload(msgspec.structs.replace(A, keep_alive_s=60))
        await house.advance(50)
        assert house.state("a") == "ready"
        await house.reload(msgspec.structs.replace(A, keep_alive_s=60, pinned=True))
        await house.advance(50)
        assert house.state("a") == "ready"
        await house.reload(msgspec.structs.replace(A, keep_alive_s=60))
        await house.advance(1)
        assert house.state("a") == "unloaded"


async def test_a_pin_by_hand_is_kept_until_the_entry_changes() -> None:
    """What a changed entry says counts, as at the start."""
    async with House(A) as house:
        house.fleet.pin("a")
        await house.reload(A)
        assert house.fleet.status("a").pinned
        await house.reload(msgspec.structs.replace(A, keep_alive_s=60))
        assert not house.fleet.status("a").pinned


async def test_running_jobs_end_with_the_old_worker_and_later_ones_have_the_new() -> None:
    """Nobody waits for anything but the load; the model that was loaded is loaded again."""
    async with House(A) as house:
        running = await house.ask("a")
        old = house.launcher.of("a")
        assert is_told(await house.reload(OTHER_A)) == ([], ["a"], [], 0)
        later = await house.ask("a", inputs=["y"])
        assert (house.state("a"), len(old.jobs)) == ("unloading", 1)
        old.answer()
        await settle()
        assert (await running).outputs == [b'"a x"']
        new = house.launcher.of("a")
        assert (old.spec.model, new.spec.model) == ("a", "another")
        new.answer()
        assert (await later).outputs == [b'"a y"']
        assert house.events.of("evicted") == [("a", "reload")]


async def test_an_idle_model_is_loaded_anew_at_once() -> None:
    """The next request finds it ready; one that was not loaded is not loaded for it."""
    async with House(A, B) as house:
        await house.answered("a")
        await house.reload(OTHER_A, msgspec.structs.replace(B, model="another"))
        assert (house.state("a"), house.state("b")) == ("ready", "unloaded")
        assert house.launcher.of("a").spec.model == "another"


async def test_a_load_that_is_on_its_way_begins_anew() -> None:
    """Whoever waits for it gets the model as it is declared now."""
    async with House(A, loads=False) as house:
        waiting = await house.ask("a")
        await house.reload(OTHER_A)
        worker = house.launcher.of("a")
        assert worker.spec.model == "another"
        worker.be_ready()
        await settle()
        worker.answer()
        assert (await waiting).outputs


async def test_a_worker_that_dies_meanwhile_is_replaced_by_one_of_its_kind() -> None:
    """Its jobs had begun with the old model, and end with it."""
    async with House(A) as house:
        running = await house.ask("a")
        house.launcher.of("a").answer()
        await running
        running = await house.ask("a")
        await house.reload(OTHER_A)
        house.launcher.of("a").die(-9)
        await settle()
        replacement = house.launcher.of("a")
        assert replacement.spec.model == "a"
        replacement.answer()
        assert (await running).outputs
        await settle()
        assert house.launcher.of("a").spec.model == "another"


async def test_jobs_whose_worker_cannot_be_replaced_go_to_the_new_model() -> None:
    """The old weights are gone from the disk, say."""
    async with House(A, loads=False) as house:
        running = await house.ask("a")
        house.launcher.of("a").be_ready()
        await settle()
        await house.reload(OTHER_A)
        house.launcher.of("a").die(-9)
        await house.advance(1)
        house.launcher.of("a").fail_load("model_failed")
        await settle()
        worker = house.launcher.of("a")
        assert worker.spec.model == "another"
        worker.be_ready()
        await settle()
        worker.answer()
        assert (await running).outputs


async def test_the_last_of_several_changes_counts() -> None:
    """While the first is still waited for."""
    async with House(A) as house:
        running = await house.ask("a")
        old = house.launcher.of("a")
        await house.reload(OTHER_A)
        await house.reload(msgspec.structs.replace(A, model="a third"))
        old.answer()
        await running
        await settle()
        assert house.launcher.of("a").spec.model == "a third"
        assert len(house.launcher.workers) == 2


async def test_a_change_that_is_taken_back_while_jobs_run_is_a_load_no_more_than_one() -> None:
    """The worker was told to end; what comes after it is as the file says."""
    async with House(A) as house:
        running = await house.ask("a")
        old = house.launcher.of("a")
        await house.reload(OTHER_A)
        await house.reload(A)
        old.answer()
        await running
        await settle()
        assert [worker.spec.model for worker in house.launcher.workers] == ["a", "a"]


async def test_kept_answers_are_those_of_the_model_that_is_declared() -> None:
    """From the moment of the reload on, also what the old worker still answers is for nobody else."""
    spec = msgspec.structs.replace(A, cache_bytes=2**20)
    async with House(spec) as house:
        await house.answered("a")
        running = await house.ask("a", inputs=["slow"])
        old = house.launcher.of("a")
        await house.reload(msgspec.structs.replace(spec, model="another"))
        again, same = await house.ask("a"), await house.ask("a", inputs=["slow"])
        assert not again.done()
        old.answer()
        assert (await running).outputs
        await settle()
        assert not same.done()
        house.launcher.of("a").answer()
        assert (await again).outputs and (await same).outputs


async def test_a_removed_model_answers_what_it_was_asked() -> None:
    """What runs and what waits; who comes now is told that there is no such model."""
    async with House(A, B) as house:
        running = await house.ask("a")
        worker = house.launcher.of("a")
        assert is_told(await house.reload(B)) == ([], [], ["a"], 1)
        with pytest.raises(NotServed, match='no model "a" here; there is b'):
            await (await house.ask("a"))
        assert [status.spec.id for status in house.fleet.statuses()] == ["b"]
        assert house.events.of("forgotten") == []
        worker.answer()
        assert (await running).outputs
        await settle()
        assert not house.launcher.has("a")
        assert house.events.of("forgotten") == [("a",)]
        assert house.events.of("evicted") == [("a", "reload")]


async def test_who_waits_for_the_load_of_a_removed_model_is_answered() -> None:
    """It is loaded for them, and is gone then."""
    async with House(A, B, loads=False) as house:
        waiting = await house.ask("a")
        await house.reload(B)
        worker = house.launcher.of("a")
        worker.be_ready()
        await settle()
        worker.answer()
        assert (await waiting).outputs
        await settle()
        assert (house.launcher.alive, house.events.of("forgotten")) == ([], [("a",)])


async def test_a_model_that_is_not_used_is_gone_at_once() -> None:
    """Idle, unloaded, loading for nobody, or failed."""
    idle, unloaded, loading, failed = (spec_of(name, keep_alive_s=-1) for name in ("idle", "un", "loading", "failed"))
    broken = msgspec.structs.replace(failed, problem="There is no folder.")
    async with House(idle, unloaded, loading, broken, B, loads=False) as house:
        call = await house.ask("idle")
        house.launcher.of("idle").be_ready()
        await settle()
        house.launcher.of("idle").answer()
        await call
        following = asyncio.ensure_future(anext(aiter(house.fleet.load("loading"))))
        await settle()
        await house.reload(B)
        assert sorted(house.events.of("forgotten")) == [("failed",), ("idle",), ("loading",), ("un",)]
        assert house.launcher.alive == []
        with pytest.raises(NotServed, match="was removed"):
            await following


async def test_a_model_that_is_back_before_it_was_gone_stays() -> None:
    """With those that it was still answering."""
    async with House(A, B) as house:
        running = await house.ask("a")
        await house.reload(B)
        assert is_told(await house.reload(A, B)) == ([], ["a"], [], 1)
        house.launcher.of("a").answer()
        assert (await running).outputs
        assert (await house.answered("a")).outputs
        assert house.events.of("forgotten") == []


async def test_permits_of_a_removed_model_go_with_its_last_request() -> None:
    """And do not count twice when it comes back."""
    small = msgspec.structs.replace(A, queue=QueueSpec(max_items=1))
    async with House(small, B) as house:
        running = await house.ask("a")
        await house.reload(B)
        await house.reload(small, B)
        with pytest.raises(Overloaded):
            await (await house.ask("a"))
        house.launcher.of("a").answer()
        await running
        assert (await house.answered("a")).outputs


async def test_a_failed_entry_is_looked_at_again_when_it_is_another() -> None:
    """The file is mended, or its folder is there now; one that is the same stays as it is."""
    broken = msgspec.structs.replace(A, problem="There is no folder.")
    async with House(broken, B, answers=True) as house:
        await house.reload(broken, B)
        with pytest.raises(ModelFailed):
            await (await house.ask("a"))
        assert (await house.reload(A, B)).changed == ["a"]
        assert (await house.answered("a")).outputs


async def test_an_entry_that_cannot_be_served_any_more_is_failed_after_its_jobs() -> None:
    """Its reason is in the answer, and is told to those that came after."""
    wrong = msgspec.structs.replace(OTHER_A, problem="There is no folder another.")
    async with House(A, B) as house:
        running = await house.ask("a")
        assert (await house.reload(wrong, B)).problems == {"a": "There is no folder another."}
        later = await house.ask("a")
        house.launcher.of("a").answer()
        assert (await running).outputs
        with pytest.raises(ModelFailed, match="no folder another"):
            await later
        assert house.state("a") == "failed"


async def test_a_loaded_model_goes_on_without_its_files() -> None:
    """Its folder is away when the file is read again; the entry is the same."""
    async with House(A, answers=True) as house:
        await house.answered("a")
        worker = house.launcher.of("a")
        away = msgspec.structs.replace(A, problem="There is no folder a.")
        assert is_told(await house.reload(away)) == ([], [], [], 1)
        assert house.launcher.of("a") is worker


async def test_what_was_found_out_of_an_entry_is_no_change() -> None:
    """Its config was downloaded meanwhile, and is read with the file."""

    async def resolver(spec: ModelSpec) -> ModelSpec:
        return msgspec.structs.replace(spec, tasks=A.tasks, has_handler=False)

    unknown = msgspec.structs.replace(A, tasks=())
    async with House(unknown, resolver=resolver, answers=True) as house:
        await house.answered("a")
        worker = house.launcher.of("a")
        assert is_told(await house.reload(A)) == ([], [], [], 1)
        assert is_told(await house.reload(msgspec.structs.replace(A, aliases=("al",)))) == ([], ["a"], [], 0)
        assert (await house.answered("al")).outputs
        assert house.launcher.of("a") is worker


async def test_an_answer_about_what_an_entry_was_is_not_taken() -> None:
    """Finding out what it is takes longer than the next reload."""
    asked: list[str] = []
    gate = asyncio.Event()

    async def resolver(spec: ModelSpec) -> ModelSpec:
        asked.append(spec.model)
        if spec.model == "a":
            await gate.wait()
            return msgspec.structs.replace(spec, problem="wrong")
        return msgspec.structs.replace(spec, tasks=A.tasks)

    unknown = msgspec.structs.replace(A, tasks=())
    async with House(unknown, resolver=resolver, answers=True) as house:
        waiting = await house.ask("a")
        await house.reload(msgspec.structs.replace(unknown, model="another"))
        assert (await waiting).outputs
        gate.set()
        await settle()
        assert (asked, house.state("a")) == (["a", "another"], "ready")


async def test_adapters_come_and_go_without_their_model() -> None:
    """Those that were loaded at run time stay where their entry stays."""
    sql, poet = AdapterSpec(id="sql", path="/sql"), AdapterSpec(id="poet", path="/poet")
    spec = msgspec.structs.replace(A, adapters=(sql,), adapters_folder="/adapters")
    async with House(spec, answers=True) as house:
        await house.fleet.load_adapter("a", AdapterSpec(id="new", path="/new"), in_place=False)
        worker = house.launcher.of("a")
        await house.reload(msgspec.structs.replace(spec, adapters=(poet,)))
        assert [one.id for one in house.fleet.get("a").adapters] == ["poet", "new"]
        assert (await house.answered("a", adapter=house.fleet.get("poet").adapter)).outputs
        with pytest.raises(NotServed):
            house.fleet.get("sql")
        assert [one.adapter for one in worker.received if isinstance(one, DropAdapter)] == [sql]
        assert house.launcher.of("a") is worker
        await house.reload(msgspec.structs.replace(spec, adapters=(msgspec.structs.replace(poet, path="/other"),)))
        assert house.launcher.of("a") is not worker


async def test_a_smaller_budget_evicts_what_is_idle() -> None:
    """And a larger one lets a model in that was too large."""
    async with House(A, B, sizes={"a": 4, "b": 4}, budget=10, answers=True) as house:
        await house.answered("a")
        await house.advance(1)
        await house.answered("b")
        await house.reload(A, B, budget={"cpu": 6})
        assert (house.state("a"), house.state("b")) == ("unloaded", "ready")
        await house.reload(A, B, budget={"cpu": 3})
        with pytest.raises(ModelFailed, match="may take"):
            await (await house.ask("a"))
        await house.reload(A, B, budget={"cpu": 30})
        await house.advance(1)
        assert [item async for item in house.fleet.load("a")]


async def test_the_servers_queue_is_as_long_as_the_file_says() -> None:
    """From the next request on."""
    async with House(A) as house:
        running = await house.ask("a", inputs=["x", "y"])
        await house.reload(A, max_queue_items=2)
        with pytest.raises(Overloaded, match="server's queue"):
            await (await house.ask("a"))
        house.launcher.of("a").answer()
        await running


async def test_a_fleet_that_drains_is_not_reloaded() -> None:
    """It serves nothing new."""
    async with House(A) as house:
        await house.fleet.drain(1)
        with pytest.raises(Draining):
            await house.reload(A)


async def test_only_models_that_something_happened_to_are_looked_at_for_a_scrape() -> None:
    """All at first; then those that are loaded or in use, and once more those that were."""
    async with House(A, B) as house:

        def looked_at() -> dict[str, str]:
            return {status.spec.id: status.state for status in house.fleet.changed_statuses()}

        assert looked_at() == {"a": "unloaded", "b": "unloaded"}
        assert looked_at() == {}
        await house.answered("a")
        assert looked_at() == {"a": "ready"}
        assert looked_at() == {"a": "ready"}
        await house.fleet.unload("a")
        assert looked_at() == {"a": "unloaded"}
        await house.advance(61)  # until then what its requests waited says how long another would
        assert looked_at() == {"a": "unloaded"}
        assert looked_at() == {}
