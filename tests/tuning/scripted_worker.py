"""A worker whose models are scripts by dtype: what candidates may do to a tuner. Launchers in tests start it.

It imports no torch: a tuner starts many of these.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from app.catalog import ModelSpec
from app.channel.messages import Progress
from app.errors import NotAvailable
from app.runtime.base import UNWATCHED, Item, Watch
from app.worker.process import become_spawned_worker, serve


class Stages:
    """Vectors of three numbers: the length of the text, and what the script adds."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[Item(one, len(one))] for one in inputs]

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        match self._spec.dtype:
            case "bfloat16":
                os.kill(os.getpid(), signal.SIGKILL)
            case "float16":
                return [self._vector(item) + 0.25 for item in items]
            case _:
                time.sleep(0.01)
        return [self._vector(item) for item in items]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        return outputs[0]

    def _vector(self, item: Item) -> Any:
        return np.full(3, len(item.features), dtype=np.float32)


class Model:
    devices: tuple[str, ...] = ("cpu",)
    dtype = "float32"
    num_parameters = 3
    max_length: int | None = None
    embedding_size: int | None = None
    largest_difference: float | None = None
    engine: Any = None
    adapters: Any = None
    compiled: Any = None

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def tasks(self) -> list[str]:
        return ["text-classification"]

    def stages(self, task: str) -> Stages:
        return Stages(self._spec)

    def warm_up(self) -> None:
        pass

    def set_num_threads(self, num_threads: int) -> None:
        pass


def load(spec: ModelSpec, *, num_threads: int, progress: Callable[[Progress], None]) -> Model:
    """The name of the model is its script: "nothing", or the path of a file that is made at the first load."""
    if spec.model == "nothing":
        raise NotAvailable("its library is not installed")
    made = Path(spec.model)
    if made.is_absolute() and not made.exists():
        progress(Progress(phase="export"))
        made.touch()
    return Model(spec)


def run(fd: int) -> NoReturn:
    serve(fd, load)


if __name__ == "__main__":
    run(become_spawned_worker())
