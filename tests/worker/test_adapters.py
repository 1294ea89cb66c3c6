"""Adapters in the worker: loaded beside everything else, and never two of them in one forward."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from app.catalog import AdapterKey, AdapterSpec, BatchSpec, ModelSpec
from app.channel.connection import Disconnected
from app.channel.messages import DropAdapter, Load, Ready, StageBegan, Submit
from app.errors import ModelFailed, NotServed
from tests.fake_worker import ScriptedModel
from tests.worker.test_worker import TASK, RunningWorker

SQL, POET = AdapterSpec(id="sql", path="/sql"), AdapterSpec(id="poet", path="/poet")


class ScriptedAdapters:
    """Loading waits for the gate; one at the path "/bad" cannot be loaded. used: what each forward had."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.problems = {"gone": "there is no folder"}
        self.loaded: dict[AdapterKey, str] = {}
        self.dropped: set[AdapterKey] = set()
        self.used: list[str] = []

    def load(self, spec: AdapterSpec) -> None:
        self.gate.wait(20)
        if spec.path == "/bad":
            raise ModelFailed("it does not fit")
        if spec.key in self.dropped:
            raise NotServed("it was unloaded")
        self.loaded[spec.key] = spec.id

    def is_loaded(self, key: AdapterKey) -> bool:
        return key in self.loaded

    def get(self, spec: AdapterSpec) -> str:
        return self.loaded[spec.key]

    def drop(self, key: AdapterKey) -> None:
        self.dropped.add(key)
        self.loaded.pop(key, None)

    @contextmanager
    def active(self, adapter: str) -> Iterator[None]:
        self.used.append(adapter)
        yield


@pytest.fixture
def adapters() -> ScriptedAdapters:
    return ScriptedAdapters()


@pytest.fixture
def worker(adapters: ScriptedAdapters) -> Iterator[RunningWorker]:
    model = ScriptedModel()
    model.adapters = adapters
    running = RunningWorker(model, BatchSpec())
    running.load()
    running.until(lambda message: isinstance(message, Ready))
    yield running
    model.gate.set()
    adapters.gate.set()
    running.end(Disconnected())


def submit(worker: RunningWorker, job_id: int, adapter: AdapterSpec | None, **order: Any) -> None:
    worker.tell(Submit(job_id=job_id, task=TASK, inputs=[order or {"text": "x"}], parameters={}, adapter=adapter))


def test_loading_an_adapter_holds_nobody_up(worker: RunningWorker, adapters: ScriptedAdapters) -> None:
    """Its jobs wait, and are to blame if the worker dies of it; others are answered."""
    submit(worker, 1, SQL)
    submit(worker, 2, SQL)
    submit(worker, 3, None)
    worker.outputs(3)
    assert worker.announcements("adapter")[0][0] == 1
    adapters.gate.set()
    worker.outputs(1)
    worker.outputs(2)
    assert set(adapters.used) == {"sql"}
    assert StageBegan(stage="adapter", job_ids=[]) in worker.received


def test_forward_is_of_one_adapter(worker: RunningWorker, adapters: ScriptedAdapters) -> None:
    """Jobs of equal adapters share it."""
    adapters.gate.set()
    for job_id, adapter in ((1, SQL), (2, POET)):
        submit(worker, job_id, adapter)
        worker.outputs(job_id)
    adapters.used.clear()
    worker.submit(0, {"text": "gate", "forward": "wait"})
    worker.until(lambda message: message == StageBegan(stage="forward", job_ids=[0]))
    given: list[AdapterSpec | None] = [SQL, POET, SQL, None, POET]
    for job_id, wanted in enumerate(given, start=10):
        submit(worker, job_id, wanted, text=f"{job_id}")
    worker.until_prepared(*range(10, 15))
    worker.model.gate.set()
    for job_id in range(10, 15):
        worker.outputs(job_id)
    assert sorted(adapters.used) == ["poet", "sql"]
    assert ["10", "12"] in worker.model.batches and ["11", "14"] in worker.model.batches


def test_adapter_that_cannot_be_loaded_fails_its_jobs(worker: RunningWorker, adapters: ScriptedAdapters) -> None:
    adapters.gate.set()
    submit(worker, 1, AdapterSpec(id="bad", path="/bad"))
    error = worker.failure(1).error
    assert (error.code, error.message) == ("model_failed", "it does not fit")
    submit(worker, 2, SQL)
    worker.outputs(2)


def test_adapter_may_be_dropped_before_the_model_is_there(adapters: ScriptedAdapters) -> None:
    """And what comes for it later is told so."""
    model = ScriptedModel()
    model.adapters = adapters
    worker = RunningWorker(model, BatchSpec())
    worker.tell(DropAdapter(adapter=SQL), Load(spec=msgspec.to_builtins(ModelSpec(id="m", model="m")), num_threads=1))
    ready = worker.until(lambda message: isinstance(message, Ready))
    assert isinstance(ready, Ready) and ready.adapter_problems == adapters.problems
    adapters.gate.set()
    submit(worker, 1, SQL)
    assert worker.failure(1).error.code == "not_found"
    worker.end(Disconnected())


def test_model_without_adapters_says_so() -> None:
    worker = RunningWorker(ScriptedModel(), BatchSpec())
    worker.load()
    submit(worker, 1, SQL)
    assert worker.failure(1).error.code == "not_available"
    worker.end(Disconnected())
