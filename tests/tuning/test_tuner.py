"""The tuner over real processes whose models are scripts: a candidate that fails is a row, and the others go on."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import psutil
import pytest

from app.catalog import ModelSpec
from app.declaration.backends import TORCH
from app.fleet.handle import Limits
from app.fleet.launcher import SpawnLauncher
from app.tuning.candidates import Candidate, candidates, plain, reference
from app.tuning.report import Report
from app.tuning.tuner import Effort, Tuner
from app.tuning.workload import Shape, Workload

SPEC = ModelSpec(id="a", model="any", tasks=("text-classification",), has_handler=False, backend="auto")
SHAPES = (Shape(1, "short"), Shape(8, "short"))
WORK = Workload(
    task="text-classification",
    parameters={},
    timed={shape: [["text"] * shape.batch] * 3 for shape in SHAPES},
    compared=[["a", "text"]],
)
DTYPES = {
    TORCH.name: replace(TORCH, candidates=({}, {"dtype": "float32"}, {"dtype": "bfloat16"}, {"dtype": "float16"}))
}
"""What the scripts tell apart."""


async def tuned(*found: Candidate, spec: ModelSpec = SPEC, rounds: int = 1, **keywords: object) -> Report:
    launcher = SpawnLauncher(worker="tests.tuning.scripted_worker", log_level="critical")
    tuner = Tuner(
        launcher,
        WORK,
        reference(spec),
        cores=2,
        effort=Effort(rounds=rounds, shape_s=0.0),
        limits=Limits(heartbeat_s=60.0),
        **keywords,  # type: ignore[arg-type]
    )
    try:
        return await tuner.run(found or candidates(spec, DTYPES))
    finally:
        await launcher.stop()


async def test_crash_of_a_candidate_is_its_row() -> None:
    """bfloat16 is killed by SIGKILL: the others are measured, and the plain path, which is float32, is not measured
    twice."""
    report = await tuned()
    rows = {row.name: row for row in report.rows}
    assert list(rows) == ["torch", "torch bfloat16", "torch float16"]
    assert rows["torch bfloat16"].problem == "its process was killed by SIGKILL (out of memory?)"
    assert rows["torch"].loss is not None and rows["torch"].loss.difference == 0
    assert rows["torch float16"].loss is not None and rows["torch float16"].loss.difference == 0.25
    assert all(rows["torch"].latency_s(shape) for shape in SHAPES)
    assert report.choice is rows["torch"]
    assert report.faster_but_less_exact is rows["torch float16"]


async def test_bound_that_the_user_gave_lets_the_fast_one_win() -> None:
    """And the best are measured in every round, each in a process of its own."""
    report = await tuned(rounds=2, max_difference=0.3)
    assert report.choice is not None
    assert report.choice.name == "torch float16"
    assert len(report.choice.load_s) == 2
    assert all(len(values) == 2 for values in report.choice.rounds.values())


async def test_process_that_made_an_export_is_not_measured(tmp_path: Path) -> None:
    """It has the memory that making it took; the next one finds the file. Both loads are in the row."""
    spec = msgspec.structs.replace(SPEC, model=str(tmp_path / "export"))
    report = await tuned(plain(spec), spec=spec)
    (row,) = report.rows
    assert len(row.load_s) == 2
    assert all(len(values) == 1 for values in row.rounds.values())


async def test_candidate_that_cannot_load_says_why() -> None:
    """The sentence of its error; without any that ran there is no choice."""
    broken = msgspec.structs.replace(SPEC, model="nothing")
    report = await tuned(spec=broken)
    assert {row.problem for row in report.rows} == {"its library is not installed"}
    assert report.choice is None


async def test_cancelled_tuner_leaves_no_process() -> None:
    """As Ctrl-C cancels it."""
    is_there = asyncio.Event()

    def tell(name: str, what: str) -> None:
        if what == "warmup":  # a worker says so
            is_there.set()

    own = psutil.Process(os.getpid())
    others = set(own.children())
    task = asyncio.create_task(tuned(rounds=100, max_difference=1.0, tell=tell))
    await asyncio.wait_for(is_there.wait(), 60)
    assert set(own.children()) > others
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(own.children()) <= others
