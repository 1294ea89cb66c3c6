"""Every fault that is quick, once, and a short soak: `python -m tests.chaos` does all of it, again and again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.benchmark.loops import raise_file_limit
from tests.chaos.__main__ import run_all
from tests.chaos.site import Site, build_models
from tests.chaos.soak import SETUP, soak
from tests.chaos.table import FAULTS


def test_no_fault_costs_an_answer(models_dir: Path) -> None:
    """Each once, under load: what was sent was answered once, right or by a documented error."""
    raise_file_limit()
    quick = [fault for fault in FAULTS if fault.is_quick]
    rows = asyncio.run(run_all(quick, models_dir, is_short=True, seconds=5))
    assert [row.fault.name for row in rows] == [fault.name for fault in quick]
    assert {row.fault.name: row.losses for row in rows if row.losses} == {}
    assert all(row.num_right > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_fault_costs_an_answer_when_it_comes_again(models_dir: Path) -> None:
    """All of them, those that take a while included."""
    raise_file_limit()
    rows = asyncio.run(run_all(FAULTS, models_dir, is_short=False, seconds=20))
    assert {row.fault.name: row.losses for row in rows if row.losses} == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_grows(models_dir: Path, tmp_path: Path) -> None:
    """In two minutes of mixed tasks, evictions and clients that leave."""
    async with Site(SETUP, build_models(models_dir), tmp_path) as site:
        soaked = await soak(site, 120)
    assert soaked.ledger.losses == []
    assert soaked.growth == []
    assert soaked.num_evictions > 0
