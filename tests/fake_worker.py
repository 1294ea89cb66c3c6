"""A worker process whose model is a script: launchers in tests are told to run this module.

An input is a dict of orders to the three stages: {"text": ...}, {"prepare": "raise"}, {"forward": "hang"},
{"forward": "steps"} (until it is cancelled), {"forward": "write"} (its text letter by letter for who reads along; with
"after" as the order that it obeys then), ...
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from app.catalog import ModelSpec
from app.channel.messages import Progress
from app.errors import InvalidInput, ModelFailed
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.generation.request import Advance
from app.tasks.completion import Delta
from app.worker.process import become_spawned_worker, serve

if TYPE_CHECKING:
    from app.runtime.generation.stages import Writer  # torch, which takes seconds


class DeviceOutOfMemory(RuntimeError):
    """torch's is recognised by its text on CPU."""

    def __init__(self) -> None:
        super().__init__("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")


class AcceleratorError(RuntimeError):
    """torch's, by whose name a device is known to be lost."""


def obey(order: str | None, gate: threading.Event | None = None) -> None:
    match order:
        case "wait":
            assert gate is not None
            gate.wait(30)
        case "raise":
            raise ZeroDivisionError("a secret of the model")
        case "invalid":
            raise InvalidInput("the text is not to the model's taste", param="inputs[0]")
        case "panic":
            raise BaseException("as a Rust panic is no Exception")
        case "memory":
            raise DeviceOutOfMemory
        case "lost":
            raise AcceleratorError("CUDA error: device-side assert triggered")
        case "hang":
            time.sleep(3600)
        case "die":
            os._exit(77)


def take_steps(index: int, watch: Watch) -> int:
    """A forward of many steps, until nobody waits for its item; how many it took."""
    for number in range(1, 3000):
        watch.step()
        if watch.is_cancelled(index):
            return number
        time.sleep(0.01)
    raise AssertionError("nobody cancelled the forward")


class ScriptedStages:
    """cost: the text's length; answers [text, parameters, number of items in its batch]."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        for one in inputs:
            obey(one.get("prepare"))
        items = [
            [Item(one, max(1, len(one.get("text", ""))), parameters.get("group"))] * one.get("items", 1)
            for one in inputs
        ]
        return items[1:] if any(one.get("prepare") == "count" for one in inputs) else items

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> Iterable[Any]:
        self._model.batches.append([item.features.get("text", "") for item in items])
        if len(items) > self._model.max_batch:
            raise DeviceOutOfMemory
        for index, item in enumerate(items):
            if item.features.get("forward") == "steps":
                self._model.num_steps = take_steps(index, watch)
            if item.features.get("forward") == "write":
                for letter in item.features["text"]:
                    watch.write(index, [ord(letter)])
                obey(item.features.get("after"), self._model.gate)
            obey(item.features.get("forward"), self._model.gate)
        if any(item.features.get("forward") == "count" for item in items):
            return [0] * (len(items) + 1)
        return [len(items)] * len(items)

    def writer(self, item: Item, parameters: dict[str, Any], *, prompt: int, choice: int) -> Writer:
        return ScriptedWriter(choice)

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        order = items[0].features.get("finish") if items else None
        obey(order)
        if order == "nan":
            return [{"score": math.nan}]
        if order == "array":
            return np.array([1.5, math.inf], dtype=np.float32)
        return [[item.features.get("text", "") for item in items], parameters, list(outputs)]


class ScriptedWriter:
    """Writes the letters as they come, and a full stop when the item is complete."""

    def __init__(self, choice: int) -> None:
        self._choice = choice

    def write(self, advances: Sequence[Advance]) -> Delta:
        text = "".join(chr(token) for advance in advances for token in advance.tokens)
        is_last = advances[-1].is_last
        return Delta(choice=self._choice, text=text + "." * is_last, finish_reason="stop" if is_last else None)


class ScriptedModel:
    devices: tuple[str, ...] = ("cpu",)
    dtype = "float32"
    num_parameters = 3
    max_length: int | None = 512
    embedding_size: int | None = None
    largest_difference: float | None = None
    engine: Any = None
    adapters: Any = None
    compiled: Any = None

    def __init__(self, max_batch: int = 1000) -> None:
        self.max_batch = max_batch
        self.batches: list[list[str]] = []
        self.num_threads: list[int] = []
        self.num_steps = 0
        self.gate = threading.Event()  # forwards of {"forward": "wait"} wait for it

    def tasks(self) -> list[str]:
        return ["text-classification"]

    def stages(self, task: str) -> ScriptedStages:
        return ScriptedStages(self)

    def warm_up(self) -> None:
        pass

    def set_num_threads(self, num_threads: int) -> None:
        self.num_threads.append(num_threads)


def load(spec: ModelSpec, *, num_threads: int, progress: Callable[[Progress], None]) -> ScriptedModel:
    """The name of the model is its script: "fail", "die" or "hang" while loading, "batch=N" for a small device."""
    progress(Progress(phase="load"))
    if spec.model == "fail":
        raise ModelFailed("its weights are broken")
    if spec.model.startswith("batch="):
        return ScriptedModel(max_batch=int(spec.model.removeprefix("batch=")))
    obey(spec.model)
    return ScriptedModel()


def run(fd: int) -> NoReturn:
    serve(fd, load)


if __name__ == "__main__":
    run(become_spawned_worker())
