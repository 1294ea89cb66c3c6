"""Hours in minutes: mixed tasks, evictions and clients that leave; what grows is found by comparing late with early."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import psutil

from tests.chaos.ledger import Ledger, Question
from tests.chaos.load import Load
from tests.chaos.site import Setup, Site
from tests.server import metric

PINNED = "vectors"
"""Its worker lives as long as the server."""
SETUP = Setup(lacks_room=True, changes={PINNED: {"pinned": True}})
NUM_CLIENTS = 4
_IN_A_ROW = 30
_LEAVERS = 0.1  # share of requests
_LEAVE_S = 0.03
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Sample:
    server_mib: float
    worker_mib: float  # of the pinned model's
    files: float
    threads: float
    tasks: float
    series: float


ROOM = Sample(server_mib=16, worker_mib=16, files=8, threads=4, tasks=8, series=0)
"""By how much the last quarter may be above the second, on average, and still be called flat."""


@dataclass(frozen=True, kw_only=True)
class Soaked:
    seconds: float
    ledger: Ledger
    num_evictions: int
    early: Sample
    late: Sample

    @property
    def growth(self) -> list[str]:
        """What is not flat."""
        names = ("server_mib", "worker_mib", "files", "threads", "tasks", "series")
        pairs = {name: (getattr(self.early, name), getattr(self.late, name)) for name in names}
        return [
            f"{name} grew from {early:.1f} to {late:.1f}"
            for name, (early, late) in pairs.items()
            if late - early > getattr(ROOM, name)
        ]


async def soak(site: Site, seconds: float) -> Soaked:
    ledger = Ledger(site.right)
    samples: list[Sample] = []
    questions = site.setup.questions()
    await site.load(PINNED)
    pinned = psutil.Process(site.worker(PINNED))
    began_at = time.monotonic()
    async with Load(site.client, ledger, questions, {}) as load, asyncio.TaskGroup() as clients:
        roaming = [
            clients.create_task(_roam(load, questions, random.Random(seed), began_at + seconds))
            for seed in range(NUM_CLIENTS)
        ]
        while not all(one.done() for one in roaming):
            await asyncio.sleep(min(5.0, seconds / 20))
            samples.append(await _sample(site, pinned))
    ledger.close()
    await site.at_rest()
    quarter = len(samples) // 4
    return Soaked(
        seconds=time.monotonic() - began_at,
        ledger=ledger,
        num_evictions=int(await site.metric("pipeserve_evictions_total")),
        early=_mean(samples[quarter : 2 * quarter]),
        late=_mean(samples[-quarter:]),
    )


async def _roam(load: Load, questions: Sequence[Question], chance: random.Random, until: float) -> None:
    """From model to model, some questions of each."""
    kinds = sorted({one.kind for one in questions})
    while time.monotonic() < until:
        kind = chance.choice(kinds)
        of_kind = [one for one in questions if one.kind == kind]
        for _ in range(_IN_A_ROW):
            question = chance.choice(of_kind)
            if chance.random() < _LEAVERS:
                await load.ask_and_leave(question, _LEAVE_S)
            else:
                await load.ask(question)


async def _sample(site: Site, pinned: psutil.Process) -> Sample:
    text = await site.metrics()
    return Sample(
        server_mib=metric(text, "pipeserve_process_memory_bytes") / _MIB,
        worker_mib=pinned.memory_info().rss / _MIB,
        files=metric(text, "pipeserve_process_open_fds"),
        threads=metric(text, "pipeserve_process_threads"),
        tasks=metric(text, "pipeserve_process_tasks"),
        series=sum(1 for line in text.splitlines() if line and not line.startswith("#")),
    )


def _mean(samples: Sequence[Sample]) -> Sample:
    return Sample(**{name: fmean(getattr(one, name) for one in samples) for name in Sample.__dataclass_fields__})
