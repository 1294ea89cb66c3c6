"""Which models stay and which go: memory, keep_alive, pins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.catalog import ModelSpec
from app.channel.messages import ErrorInfo
from app.errors import DeadlineExceeded, ModelFailed
from app.fleet.residency import PATIENCE_S, Lease, Refuse, Residency, State
from app.settings import Settings
from tests.fleet.fakes import House, settle, spec_of

SIZES = {"a": 4, "b": 4, "c": 4, "big": 8, "huge": 11}


def house_of(*ids: str, budget: int = 10, **changes: Any) -> House:
    return House(*(spec_of(model_id, keep_alive_s=-1) for model_id in ids), sizes=SIZES, budget=budget, **changes)


async def test_the_least_recently_used_idle_model_goes() -> None:
    """Not the first loaded: the one that was used longest ago."""
    async with house_of("a", "b", "c") as house:
        for model_id in ("a", "b", "a"):
            await house.answered(model_id)
            await house.advance(1)
        await house.answered("c")
        assert [house.state(model_id) for model_id in "abc"] == ["ready", "unloaded", "ready"]
        assert house.events.of("evicted") == [("b", "memory")]


async def test_as_many_go_as_the_bytes_need() -> None:
    """And no more."""
    async with house_of("a", "b", "big") as house:
        await house.answered("a")
        await house.answered("b")
        await house.answered("big")
        assert [house.state(model_id) for model_id in ("a", "b", "big")] == ["unloaded", "unloaded", "ready"]


async def test_a_model_in_use_is_never_evicted() -> None:
    """The load waits until it is idle."""
    async with house_of("a", "b", "big") as house:
        running = await house.ask("a")
        waiting = await house.ask("big")
        await house.advance(2)
        assert house.state("a") == "ready"
        assert house.state("big") == "loading"
        assert not house.launcher.has("big")
        house.launcher.of("a").answer()
        await running
        await settle()
        assert house.state("a") == "unloaded"
        house.launcher.of("big").answer()
        assert (await waiting).outputs


async def test_bytes_are_free_when_the_process_is_reaped() -> None:
    """Not when it was told to stop."""
    async with house_of("a", "big") as house:
        await house.answered("a")
        last = house.launcher.of("a")
        last.reaps_slowly = True
        waiting = await house.ask("big")
        assert not last.is_alive
        assert not house.launcher.has("big")
        last.reap()
        await settle()
        house.launcher.of("big").answer()
        assert (await waiting).outputs


async def test_a_load_that_must_wait_blocks_no_other() -> None:
    """What fits goes ahead."""
    async with house_of("a", "big", "b") as house:
        await house.ask("a")
        await house.ask("big")
        assert (await house.answered("b")).outputs


async def test_two_busy_models_take_turns() -> None:
    """A model under constant load takes no new requests, after a while, when another waits for its room."""
    async with house_of("a", "big") as house:
        running = await house.ask("a")
        waiting = await house.ask("big")
        await house.advance(PATIENCE_S - 1)
        assert house.state("a") == "ready"
        await house.advance(2)
        assert house.state("a") == "unloading"
        later = await house.ask("a")
        house.launcher.of("a").answer()
        assert (await running).outputs
        await settle()
        house.launcher.of("big").answer()
        assert (await waiting).outputs
        await settle()
        house.launcher.of("a").answer()
        assert (await later).outputs


async def test_a_pinned_model_stays() -> None:
    """Neither memory nor keep_alive moves it; by hand it can be unloaded."""
    specs = spec_of("a", pinned=True, keep_alive_s=1), spec_of("big")
    async with House(*specs, sizes=SIZES, budget=10) as house:
        await house.answered("a")
        waiting = await house.ask("big")
        await house.advance(60)
        assert house.state("a") == "ready"
        assert house.state("big") == "loading"
        await house.fleet.unload("a")
        await settle()
        house.launcher.of("big").answer()
        assert (await waiting).outputs


async def test_a_model_pinned_by_hand_stays_until_it_is_unpinned() -> None:
    """As one whose entry says so; then it goes for whoever waits for its room."""
    async with House(spec_of("a", keep_alive_s=1), spec_of("big"), sizes=SIZES, budget=10) as house:
        await house.answered("a")
        assert house.fleet.pin("a").pinned
        assert house.fleet.status("a").unloads_at is None
        waiting = await house.ask("big")
        await house.advance(60)
        assert (house.state("a"), house.state("big")) == ("ready", "loading")
        assert not house.fleet.unpin("a").pinned
        await settle()
        house.launcher.of("big").answer()
        assert (await waiting).outputs


async def test_an_unpinned_model_is_kept_as_long_as_others() -> None:
    """From its last use on, which may be too long ago already; so is one that its entry pins."""
    async with House(spec_of("a", pinned=True, keep_alive_s=10)) as house:
        await house.answered("a")
        house.fleet.unpin("a")
        await house.advance(9)
        assert house.state("a") == "ready"
        house.fleet.pin("a")
        await house.advance(60)
        assert house.state("a") == "ready"
        house.fleet.unpin("a")
        await settle()
        assert house.state("a") == "unloaded"


async def test_a_model_may_be_pinned_before_it_is_loaded() -> None:
    """That loads nothing."""
    async with House(spec_of("a", keep_alive_s=1)) as house:
        assert house.fleet.pin("a").state == "unloaded"
        await house.answered("a")
        await house.advance(60)
        assert house.state("a") == "ready"


async def test_unloading_by_hand_ends_the_pin() -> None:
    """One that its entry says stays."""
    specs = spec_of("a"), spec_of("b", pinned=True)
    async with House(*specs) as house:
        for model_id in "ab":
            await house.answered(model_id)
            house.fleet.pin(model_id)
            await house.fleet.unload(model_id)
        assert [house.fleet.status(model_id).pinned for model_id in "ab"] == [False, True]


async def test_who_waits_for_the_room_of_pinned_models_is_told_their_names() -> None:
    """Not of those that could go."""
    specs = [spec_of(model_id, keep_alive_s=-1) for model_id in ("a", "b", "big")]
    async with House(*specs, sizes={**SIZES, "b": 1}, budget=10) as house:
        await house.answered("a")
        await house.answered("b")
        house.fleet.pin("a")
        waiting = await house.ask("big")
        await house.advance(Settings().load_wait_s)
        with pytest.raises(DeadlineExceeded, match=r'no room for it beside what is pinned, "a"\.$'):
            await waiting


async def test_a_model_larger_than_the_budget_is_failed() -> None:
    """Waiting would not help; the sentence has both numbers."""
    async with house_of("huge") as house:
        with pytest.raises(ModelFailed, match=r"needs 11 bytes .* 10 bytes in all"):
            await (await house.ask("huge"))
        assert house.launcher.workers == []


async def test_a_model_measured_larger_than_the_budget_is_failed() -> None:
    """It was thought to be smaller; it does not stay."""
    async with house_of("huge") as house:
        house.memory.estimates["huge"] = None
        with pytest.raises(ModelFailed, match="needs 11 bytes"):
            await (await house.ask("huge"))
        await settle()
        assert house.launcher.alive == []
        assert house.state("huge") == "failed"


async def test_a_measured_size_overrides_the_estimate() -> None:
    """Two that seemed to fit do not: the idle one goes."""
    async with house_of("a", "big") as house:
        house.memory.estimates["big"] = 1
        await house.answered("a")
        await house.answered("big")
        await settle()
        assert [house.state(model_id) for model_id in ("a", "big")] == ["unloaded", "ready"]


async def test_loads_wait_for_the_devices_to_be_measured() -> None:
    """Nothing is started on an unknown budget."""
    residency = Residency()
    residency.add(spec_of("a"), State.UNLOADED)
    residency.acquire(Lease("a"), 0)
    assert residency.estimated("a", {"cpu": 4}, 0) == []
    assert len(residency.set_budgets({"cpu": 10}, 1)) == 1


async def test_running_out_of_memory_evicts_and_tries_once_more() -> None:
    """Though the bytes seemed to fit; the idle model goes, the request never notices."""
    async with house_of("a", "b", loads=False) as house:
        first = await house.ask("a")
        house.launcher.of("a").be_ready()
        await settle()
        house.launcher.of("a").answer()
        await first
        second = await house.ask("b")
        house.launcher.of("b").fail_load("out_of_memory", "no memory")
        await settle()
        assert house.state("a") == "unloaded"
        house.launcher.of("b").be_ready()
        await settle()
        house.launcher.of("b").answer()
        assert (await second).outputs
        assert ("b", "out_of_memory") in house.events.of("load_finished")


async def test_the_second_try_waits_for_a_model_in_use() -> None:
    """There is nothing idle to evict now, but there will be."""
    async with house_of("a", "b", loads=False) as house:
        running = await house.ask("a")
        house.launcher.of("a").be_ready()
        await settle()
        second = await house.ask("b")
        house.launcher.of("b").fail_load("out_of_memory", "no memory")
        await settle()
        assert not house.launcher.has("b")
        house.launcher.of("a").answer()
        await running
        await settle()
        assert not house.launcher.has("a")
        house.launcher.of("b").be_ready()
        await settle()
        house.launcher.of("b").answer()
        assert (await second).outputs


async def test_running_out_of_memory_twice_fails() -> None:
    """With the worker's sentence; later requests are told at once."""
    async with house_of("a", loads=False) as house:
        call = await house.ask("a")
        for _ in range(2):
            house.launcher.of("a").fail_load("out_of_memory", "no memory for 4 bytes")
            await settle()
        with pytest.raises(ModelFailed, match="no memory for 4 bytes"):
            await call
        assert house.state("a") == "failed"
        assert len(house.launcher.workers) == 2


async def test_keep_alive_counts_from_the_end_of_the_last_use() -> None:
    """A long job does not eat it up."""
    async with House(spec_of("a", keep_alive_s=10)) as house:
        call = await house.ask()
        await house.advance(60)
        assert house.state() == "ready"
        house.launcher.of("a").answer()
        await call
        await house.advance(9)
        assert house.state() == "ready"
        await house.advance(2)
        assert house.state() == "unloaded"
        assert house.events.of("evicted") == [("a", "keep_alive")]


async def test_keep_alive_of_zero_unloads_after_the_answer() -> None:
    """The model's own, and a request's."""
    async with House(spec_of("a", keep_alive_s=0), spec_of("b")) as house:
        await house.answered("a")
        await house.answered("b", keep_alive_s=0)
        await settle()
        assert (house.state("a"), house.state("b")) == ("unloaded", "unloaded")


async def test_keep_alive_of_zero_leaves_an_unused_model() -> None:
    """Loaded by hand, it waits for its first use."""
    async with House(spec_of("a", keep_alive_s=0, preload=True)) as house:
        await house.advance(1000)
        assert house.state() == "ready"
        await house.answered()
        await settle()
        assert house.state() == "unloaded"


async def test_keep_alive_of_minus_one_is_for_ever() -> None:
    """Until a later request says otherwise."""
    async with House(spec_of("a", keep_alive_s=10)) as house:
        await house.answered(keep_alive_s=-1)
        await house.advance(10_000)
        assert house.state() == "ready"
        await house.answered()
        await house.advance(11)
        assert house.state() == "unloaded"


async def test_a_preloaded_model_that_is_not_used_goes_too() -> None:
    """Its idle time begins when it is ready."""
    async with House(spec_of("a", keep_alive_s=10, preload=True)) as house:
        await house.advance(11)
        assert house.state() == "unloaded"


async def test_a_load_that_waits_for_room_is_dropped_with_its_last_waiter() -> None:
    """Nobody wants it any more."""
    async with house_of("a", "big") as house:
        await house.ask("a")
        waiting = await house.ask("big")
        waiting.cancel()
        await settle()
        assert house.state("big") == "unloaded"
        house.launcher.of("a").answer()
        await settle()
        assert not house.launcher.has("big")


async def test_a_crash_keeps_the_idle_clock() -> None:
    """A replaced worker does not begin a new life."""
    async with House(spec_of("a", keep_alive_s=10)) as house:
        await house.answered()
        await house.advance(6)
        house.launcher.of("a").die(-9)
        await settle()
        assert house.state() == "ready"
        await house.advance(5)
        assert house.state() == "unloaded"


async def test_devices_have_budgets_of_their_own() -> None:
    """A model on one does not push out a model on another."""
    specs = spec_of("a", device="cuda:0"), spec_of("big", device="cpu")
    async with House(*specs, sizes=SIZES, budget=10, devices=("cpu", "cuda:0")) as house:
        await house.answered("a")
        await house.ask("big")
        assert house.launcher.has("big")
        assert house.state("a") == "ready"


GPUS = ("cpu", "cuda:0", "cuda:1")


def on_gpus(**devices: str) -> list[ModelSpec]:
    """Entries by their ids; each device by its number."""
    return [
        spec_of(name, keep_alive_s=-1, devices=tuple(f"cuda:{number}" for number in numbers))
        for name, numbers in devices.items()
    ]


async def test_a_spread_model_counts_on_each_of_its_devices() -> None:
    """A load on any of them makes it go, and it goes from all."""
    async with House(*on_gpus(big="01", a="0", c="1"), sizes=SIZES, budget=10, devices=GPUS) as house:
        await house.answered("big")
        assert house.fleet.status("big").memory == {"cuda:0": 8, "cuda:1": 8}
        assert house.fleet.status("big").device == "cuda:0,cuda:1"
        await house.answered("a")
        assert house.state("big") == "unloaded"
        await house.answered("c")
        assert [house.state(one) for one in ("a", "c")] == ["ready", "ready"]
        assert house.events.of("evicted") == [("big", "memory")]


async def test_a_spread_model_makes_room_on_all_of_its_devices() -> None:
    """One model goes from each that lacks room."""
    async with House(*on_gpus(a="0", c="1", big="01"), sizes=SIZES, budget=10, devices=GPUS) as house:
        await house.answered("a")
        await house.answered("c")
        assert (await house.answered("big")).outputs
        assert house.events.of("evicted") == [("a", "memory"), ("c", "memory")]


async def test_nothing_goes_for_a_spread_model_that_cannot_have_all_its_room() -> None:
    """What is in use on one device stays, so what is idle on the other stays too."""
    async with House(*on_gpus(a="0", c="1", big="01"), sizes=SIZES, budget=10, devices=GPUS) as house:
        await house.answered("a")
        running = await house.ask("c")
        waiting = await house.ask("big")
        assert [house.state(one) for one in ("a", "c", "big")] == ["ready", "ready", "loading"]
        house.launcher.of("c").answer()
        await running
        await settle()
        house.launcher.of("big").answer()
        assert (await waiting).outputs
        assert [house.state(one) for one in ("a", "c")] == ["unloaded", "unloaded"]


async def test_a_spread_model_too_big_for_one_device_says_which() -> None:
    """Though the other would have room."""
    async with House(*on_gpus(huge="01"), sizes=SIZES, budget=10, devices=GPUS) as house:
        with pytest.raises(ModelFailed, match="needs 11 bytes of memory on cuda:0, where models may take 10 bytes"):
            await (await house.ask("huge"))


async def test_replicas_have_devices_of_their_own() -> None:
    """Each worker is told its part of `devices`; without any, they take the accelerators in turn."""
    declared = spec_of("a", replicas=2, devices=("cuda:1", "cuda:0"))
    async with House(declared, spec_of("b", replicas=3), sizes={"a": 2, "b": 2}, budget=10, devices=GPUS) as house:
        await house.ask("a")
        assert house.fleet.status("a").memory == {"cuda:1": 2, "cuda:0": 2}
        await house.ask("b")
        told = [(worker.spec.id, worker.spec.device, worker.spec.devices) for worker in house.launcher.workers]
        assert told[:2] == [("a", "cuda:1", ()), ("a", "cuda:0", ())]
        assert [device for _, device, _ in told[2:]] == ["cuda:0", "cuda:1", "cuda:0"]


async def test_a_replaced_worker_has_the_devices_of_the_one_before() -> None:
    """Not those of another replica."""
    declared = spec_of("a", replicas=2, devices=("cuda:0", "cuda:1"))
    async with House(declared, sizes=SIZES, budget=10, devices=GPUS) as house:
        await house.ask("a")
        (dead,) = [worker for worker in house.launcher.alive if worker.spec.device == "cuda:1"]
        dead.die(-9)
        await house.advance(1)
        assert sorted(worker.spec.device or "" for worker in house.launcher.alive) == ["cuda:0", "cuda:1"]


async def test_an_unknown_size_is_tried() -> None:
    """It is measured when it is there."""
    async with house_of("a") as house:
        house.memory.estimates["a"] = None
        assert (await house.answered("a")).outputs
        assert house.fleet.status("a").memory_bytes == 4


async def test_replicas_need_their_bytes_each() -> None:
    """Three of four bytes are more than ten."""
    async with House(spec_of("a", replicas=3), sizes=SIZES, budget=10) as house:
        with pytest.raises(ModelFailed, match="needs 12 bytes"):
            await (await house.ask("a"))


async def test_a_lease_on_a_failed_model_is_refused() -> None:
    """It gets an answer, and is over."""
    residency = Residency()
    residency.add(spec_of("a", tasks=()), State.UNRESOLVED)
    lease = Lease("a")
    residency.acquire(lease, 0)
    error = ModelFailed("no")
    (refusal, _) = residency.unresolvable("a", ErrorInfo.of(error))
    assert isinstance(refusal, Refuse) and refusal.lease is lease
    assert lease.is_over
    assert residency.release(lease, 1) == []
    (refusal,) = residency.acquire(Lease("a"), 2)
    assert isinstance(refusal, Refuse)


async def test_unload_waits_behind_a_load_in_use() -> None:
    """Requests that wait for the load are answered first."""
    async with House(loads=False) as house:
        call = await house.ask()
        unloading = asyncio.create_task(house.fleet.unload("a"))
        await settle()
        house.launcher.of("a").be_ready()
        await settle()
        house.launcher.of("a").answer()
        assert (await call).outputs
        assert (await unloading).state == "unloaded"
