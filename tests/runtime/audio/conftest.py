"""The tiny sound models, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from app.runtime.base import Stages
from tests.runtime.compute import load
from tests.tiny import TASK_OF, build


@pytest.fixture(scope="session")
def stages_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stages]:
    """Our stages of a tiny model, by its name."""
    folder = tmp_path_factory.mktemp("audio")

    @cache
    def stages(name: str) -> Stages:
        return load(build(name, folder), TASK_OF[name]).stages(TASK_OF[name])

    return stages


@pytest.fixture(scope="session")
def pipe_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """transformers' own pipeline of the same weights."""
    folder: Path = tmp_path_factory.mktemp("audio-pipes")

    @cache
    def pipe(name: str) -> Any:
        task: Any = TASK_OF[name]
        return pipeline(task, model=str(build(name, folder)), device="cpu")

    return pipe
