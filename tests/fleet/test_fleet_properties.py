"""Whatever happens in whatever order: no request is lost or answered twice, and nothing is used that is not there.

A hypothesis state machine drives a fleet on fake workers: requests (equal ones too), cancellations, loads and unloads
by hand, reloads of the catalogue (models are others, go and come back), time, and workers that become ready, run out of
memory, answer, die, hang and are reaped late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.catalog import ModelSpec
from app.channel.messages import Progress
from app.errors import NotServed, PipeserveError
from app.fleet.requests import JobRequest, JobResult, ModelStatus
from tests.fleet.fakes import TASK, FakeWorker, House, settle, spec_of

SIZES = {"a": 3, "b": 4, "c": 5, "d": 8}
BUDGET = 10
SPECS = (
    spec_of("a", keep_alive_s=20, cache_bytes=1500),
    spec_of("b", keep_alive_s=-1, aliases=("bee",), cache_bytes=0),
    spec_of("c", keep_alive_s=0),
    spec_of("d", keep_alive_s=60),
)
MODELS = st.sampled_from(sorted(SIZES))
CHOICE = st.integers(min_value=0, max_value=50)
EXIT_CODES = st.sampled_from([-9, -11, 1])
LIMIT_S = 400.0
"""Longer than any deadline, back-off and limit together: after it everything is answered."""


def spec_at(spec: ModelSpec, version: int) -> ModelSpec:
    return msgspec.structs.replace(spec, model=f"{spec.id}.{version}")


class FleetMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.house = self.run(self.make())
        self.number = 0
        self.staying: set[str] = set()  # pinned while they were ready
        self.num_evicted = 0  # of those that were looked at
        self.others: list[asyncio.Task[Any]] = []
        self.outcomes: dict[str, object] = {}
        self.versions = dict.fromkeys(SIZES, 0)
        self.declared = set(SIZES)
        self.asked_at: dict[str, int] = {}  # the version of its model that was declared when the request came

    async def make(self) -> House:
        house = House(*(spec_at(spec, 0) for spec in SPECS), sizes=SIZES, budget=BUDGET, loads=False)
        house.launcher.on_worker = lambda worker: setattr(worker, "reaps_slowly", True)
        return await house.__aenter__()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def worker(self, choice: int, *, is_ready: bool | None = None, has_jobs: bool = False) -> FakeWorker | None:
        workers = [
            worker
            for worker in self.house.launcher.alive
            if not worker.is_hung and is_ready in (None, worker.is_ready) and (worker.jobs or not has_jobs)
        ]
        return workers[choice % len(workers)] if workers else None

    # What clients do

    @rule(
        model=MODELS,
        num_items=st.integers(1, 3),
        deadline_s=st.sampled_from([5.0, 60.0, None]),
        keep_alive_s=st.sampled_from([None, None, 0.0, -1.0, 30.0]),
        waits=st.sampled_from([True, True, True, False]),
        is_common=st.booleans(),
    )
    def ask(
        self,
        model: str,
        num_items: int,
        deadline_s: float | None,
        keep_alive_s: float | None,
        waits: bool,
        is_common: bool,
    ) -> None:
        """is_common: others may ask the same."""
        self.number += 1
        name = f"r{self.number}"
        request = JobRequest(
            model_id=model,
            task=TASK,
            inputs=[f"{'common' if is_common else name}.{index}" for index in range(num_items)],
            parameters={},
            num_items=num_items,
            deadline_s=deadline_s,
            keep_alive_s=keep_alive_s,
            wait_for_load=waits,
        )
        self.run(self.begin(name, request))

    async def begin(self, name: str, request: JobRequest) -> None:
        is_declared = request.model_id in self.declared
        self.asked_at[name] = self.versions[request.model_id]
        self.house.calls.append(asyncio.create_task(self.call(name, request, is_declared=is_declared)))
        await settle()

    async def call(self, name: str, request: JobRequest, *, is_declared: bool) -> JobResult:
        """One request, and that its answer is its own, and the only one; and that no reload loses it."""
        try:
            result: JobResult = await self.house.fleet.submit(request)
        except (PipeserveError, asyncio.CancelledError) as error:
            self.note(name, error)
            assert not (is_declared and isinstance(error, NotServed))
            raise
        self.note(name, result)
        assert result.outputs == [f'"{request.model_id} {one}"'.encode() for one in request.inputs]
        return result

    def note(self, name: str, outcome: object) -> None:
        assert name not in self.outcomes, f"{name} was answered twice"
        self.outcomes[name] = outcome

    @rule(choice=CHOICE)
    def cancel(self, choice: int) -> None:
        running = [call for call in self.house.calls if not call.done()]
        if running:
            running[choice % len(running)].cancel()
            self.run(settle())

    @rule(renewed=st.sets(MODELS), gone=st.sampled_from([None, None, *sorted(SIZES)]))
    def reload(self, renewed: set[str], gone: str | None) -> None:
        """renewed: workers of these models know another one."""
        self.staying.clear()
        for model in renewed:
            self.versions[model] += 1
        specs = [spec_at(spec, self.versions[spec.id]) for spec in SPECS if spec.id != gone]
        self.declared = {spec.id for spec in specs}
        self.run(self.house.reload(*specs))

    @rule(model=MODELS)
    def load(self, model: str) -> None:
        async def follow() -> list[Progress | ModelStatus]:
            return [item async for item in self.house.fleet.load(model)]

        self.run(self.begin_other(follow()))

    @rule(model=MODELS, is_pinned=st.booleans())
    def pin(self, model: str, is_pinned: bool) -> None:
        if model in self.declared:
            self.run(self.set_pin(model, is_pinned=is_pinned))

    async def set_pin(self, model: str, *, is_pinned: bool) -> None:
        fleet = self.house.fleet
        status = fleet.pin(model) if is_pinned else fleet.unpin(model)
        assert status.pinned is is_pinned
        self.staying.discard(model)
        if is_pinned and status.state == "ready":
            self.staying.add(model)
        await settle()

    @rule(model=MODELS)
    def unload(self, model: str) -> None:
        self.staying.discard(model)
        self.run(self.begin_other(self.house.fleet.unload(model)))

    async def begin_other(self, work: Coroutine[Any, Any, Any]) -> None:
        self.others.append(asyncio.create_task(work))
        await settle()

    # What workers do

    @rule(choice=CHOICE)
    def become_ready(self, choice: int) -> None:
        if (worker := self.worker(choice, is_ready=False)) is not None:
            worker.be_ready()
            self.run(settle())

    @rule(choice=CHOICE, code=st.sampled_from(["out_of_memory", "out_of_memory", "model_failed"]))
    def fail_load(self, choice: int, code: str) -> None:
        if (worker := self.worker(choice, is_ready=False)) is not None:
            worker.fail_load(code)
            self.run(settle())

    @rule(choice=CHOICE, several=st.booleans())
    def begin_forward(self, choice: int, several: bool) -> None:
        if (worker := self.worker(choice, is_ready=True, has_jobs=True)) is not None:
            worker.begin(*list(worker.jobs)[: None if several else 1])
            self.run(settle())

    @rule(choice=CHOICE, which=CHOICE)
    def answer(self, choice: int, which: int) -> None:
        if (worker := self.worker(choice, is_ready=True, has_jobs=True)) is not None:
            worker.answer(list(worker.jobs)[which % len(worker.jobs)])
            worker.begin()
            self.run(settle())

    @rule(choice=CHOICE, exit_code=EXIT_CODES)
    def die(self, choice: int, exit_code: int) -> None:
        if (worker := self.worker(choice)) is not None:
            worker.die(exit_code)
            self.run(settle())

    @rule(choice=CHOICE)
    def hang(self, choice: int) -> None:
        if (worker := self.worker(choice)) is not None:
            worker.is_hung = True

    @rule(choice=CHOICE)
    def reap(self, choice: int) -> None:
        dead = [worker for worker in self.house.launcher.workers if not worker.is_alive and not worker.is_reaped]
        if dead:
            dead[choice % len(dead)].reap()
            self.run(settle())

    @rule(seconds=st.sampled_from([0.6, 3.0, 15.0, 70.0]))
    def advance(self, seconds: float) -> None:
        self.run(self.house.advance(seconds))

    # What holds at every moment

    @invariant()
    def the_budget_is_kept(self) -> None:
        """A process counts from its launch until it is reaped."""
        there = [worker for worker in self.house.launcher.workers if not worker.is_reaped]
        assert sum(SIZES[worker.spec.id] for worker in there) <= BUDGET

    @invariant()
    def what_is_pinned_stays(self) -> None:
        """For others, and in idleness; what was not ready when it was pinned may have been on its way out."""
        evicted = self.house.events.of("evicted")
        for model, reason in evicted[self.num_evicted :]:
            assert reason not in ("memory", "keep_alive") or model not in self.staying
        self.num_evicted = len(evicted)

    @invariant()
    def there_is_one_worker_per_model(self) -> None:
        ids = [worker.spec.id for worker in self.house.launcher.workers if not worker.is_reaped]
        assert len(ids) == len(set(ids))

    @invariant()
    def only_ready_workers_have_jobs(self) -> None:
        assert all(worker.is_ready for worker in self.house.launcher.workers if worker.jobs)

    @invariant()
    def no_lease_is_on_an_unloaded_model(self) -> None:
        """A model with permits in use is loaded, or on its way; one that rests has no process."""
        for status in self.house.fleet.statuses():
            if status.in_flight:
                assert status.state in ("loading", "ready", "unloading")
            if status.state in ("unloaded", "failed"):
                assert not self.house.launcher.has(status.spec.id)
                assert status.queued == 0
            if status.state == "ready":
                (worker,) = [one for one in self.house.launcher.workers if one.spec.id == status.spec.id][-1:]
                assert worker.is_ready

    @invariant()
    def no_job_is_computed_by_what_its_model_was_before_it_came(self) -> None:
        for worker in self.house.launcher.alive:
            for job in worker.jobs.values():
                name = job.inputs[0].partition(".")[0]
                assert self.asked_at.get(name, 0) <= int(worker.spec.model.partition(".")[2])

    @invariant()
    def permits_are_those_of_open_requests(self) -> None:
        is_anything_open = any(not call.done() for call in self.house.calls)
        in_flight = sum(status.in_flight for status in self.house.fleet.changed_statuses())  # with those that leave
        assert (in_flight > 0) == is_anything_open

    # What holds when everything has come to rest

    @rule()
    @precondition(lambda self: self.number > 0)
    def quiesce(self) -> None:
        """With workers that do what they should, every request that is open is answered, and every wait ends."""
        self.run(self.come_to_rest())
        assert all(call.done() for call in (*self.house.calls, *self.others))
        assert len(self.outcomes) == len(self.house.calls)
        for status in self.house.fleet.statuses():
            assert status.state in ("ready", "unloaded", "failed"), status
            assert (status.in_flight, status.queued) == (0, 0)

    async def come_to_rest(self) -> None:
        for model in self.declared:  # or what waits for their room might wait for ever
            await self.set_pin(model, is_pinned=False)
        launcher = self.house.launcher
        launcher.loads = launcher.answers = True
        launcher.on_worker = lambda worker: None
        for worker in launcher.workers:
            worker.reaps_slowly = False
            worker.reap()
            if worker.is_alive and not worker.is_hung:
                if not worker.is_ready:
                    worker.be_ready()
                worker.answer()
                worker.begin()
        await self.house.advance(1)
        running = [call for call in self.house.calls if not call.done()]
        if not any(worker.is_hung for worker in launcher.workers):
            assert not running, "nothing hangs, and yet requests wait"
        await self.house.advance(LIMIT_S)
        launcher.loads = launcher.answers = False
        launcher.on_worker = lambda worker: setattr(worker, "reaps_slowly", True)

    @initialize()
    def nothing_is_loaded(self) -> None:
        assert self.house.launcher.workers == []

    def teardown(self) -> None:
        try:
            self.run(self.end())
        finally:
            self.loop.close()

    async def end(self) -> None:
        await self.come_to_rest()
        await self.house.__aexit__()
        await asyncio.wait_for(asyncio.gather(*self.others, return_exceptions=True), 5)
        for call in (*self.house.calls, *self.others):
            if not call.cancelled() and (error := call.exception()) is not None:
                assert isinstance(error, PipeserveError), error
        assert len(self.outcomes) == len(self.house.calls)


FleetMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestFleetProperties = FleetMachine.TestCase
