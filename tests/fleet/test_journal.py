"""Whoever follows a job is told of all that happens to it, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.channel.messages import BatchDone, StageTime
from app.errors import WorkerLost
from app.fleet.journal import Journal
from app.fleet.requests import JobResult
from tests.fleet.fakes import TASK, House, settle, spec_of


class Diary(Journal):
    """Every entry is a line."""

    is_kept = True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def began(self, *, is_stream: bool) -> None:
        self.lines.append("began a stream" if is_stream else "began")

    def waits_for_load(self) -> None:
        self.lines.append("waits for a load")

    def granted(self) -> None:
        self.lines.append("granted")

    def shared(self) -> None:
        self.lines.append("shared")

    def sent(self, *, alone: bool) -> None:
        self.lines.append("sent alone" if alone else "sent")

    def forwarded(self, batch: BatchDone, together: Sequence[Journal]) -> None:
        for diary in together:
            assert isinstance(diary, Diary)
            diary.lines.append(f"forwarded with {len(together) - 1} others")

    def computed(self, stages: Sequence[StageTime]) -> None:
        self.lines.append("computed")

    def returned(self, reason: str) -> None:
        self.lines.append(f"returned: {reason}")

    def ended(self, result: JobResult | None, code: str | None) -> None:
        self.lines.append(f"ended: {code}" if result is None else "ended: kept" if result.is_kept else "ended")


KILLED = "the process was killed by SIGKILL (out of memory?)"


async def test_a_job_that_is_answered() -> None:
    """From its permits to its answer; its worker is asked to tell of its stages."""
    diary = Diary()
    async with House() as house:
        call = await house.ask(journal=diary)
        worker = house.launcher.of("a")
        (submit,) = worker.jobs.values()
        assert submit.is_traced
        worker.say(BatchDone(task=TASK, num_items=1, tokens=1, padded_tokens=1, forward_s=1, traced=[submit.job_id]))
        worker.answer()
        await call
    assert diary.lines == [
        "began",
        "waits for a load",
        "granted",
        "sent",
        "forwarded with 0 others",
        "computed",
        "ended",
    ]


async def test_jobs_of_one_forward_are_told_of_each_other() -> None:
    """One is told for all; a job that was cancelled meanwhile is not among them."""
    diaries = [Diary() for _ in range(3)]
    async with House() as house:
        await house.answered()
        calls = [await house.ask(journal=diary) for diary in diaries]
        worker = house.launcher.of("a")
        ids = list(worker.jobs)
        calls[2].cancel()
        await settle()
        worker.say(BatchDone(task=TASK, num_items=3, tokens=3, padded_tokens=3, forward_s=1, traced=ids))
        worker.answer()
        await asyncio.gather(*calls[:2])
    assert [diary.lines[3] for diary in diaries] == [
        "forwarded with 1 others",
        "forwarded with 1 others",
        "ended: cancelled",
    ]


async def test_a_job_whose_worker_dies() -> None:
    """It goes back, and is sent to another, alone if it may have been to blame."""
    diary = Diary()
    async with House() as house:
        await house.answered()
        call = await house.ask(journal=diary)
        worker = house.launcher.of("a")
        worker.begin(*worker.jobs)
        worker.die(-9)
        await settle()
        house.launcher.of("a").answer()
        await call
    assert diary.lines == ["began", "granted", "sent", f"returned: {KILLED}", "sent alone", "computed", "ended"]


async def test_a_job_that_ends_its_workers() -> None:
    """Until it is answered with an error."""
    diary = Diary()
    async with House() as house:
        await house.answered()
        call = await house.ask(journal=diary)
        while not call.done():
            worker = house.launcher.of("a")
            worker.begin(*worker.jobs)
            worker.die(-9)
            await settle()
        assert isinstance(call.exception(), WorkerLost)
    assert diary.lines.count(f"returned: {KILLED}") == 3
    assert diary.lines[-1] == "ended: worker_lost"


async def test_a_job_that_is_refused_has_not_begun() -> None:
    """Nobody had permits for it, or its model had failed."""
    diary = Diary()
    async with House(spec_of("a", problem="its weights are broken")) as house:
        call = await house.ask(journal=diary)
        assert call.exception() is not None
    assert diary.lines == []


async def test_a_job_that_an_equal_one_answers() -> None:
    """It waits for that, or has an answer at once that was kept."""
    first, second, third = Diary(), Diary(), Diary()
    async with House(spec_of("a", cache_bytes=10_000)) as house:
        await house.answered(inputs=["another"])
        calls = [await house.ask(journal=diary) for diary in (first, second)]
        house.launcher.of("a").answer()
        await asyncio.gather(*calls)
        await (await house.ask(journal=third))
    assert first.lines == ["began", "granted", "sent", "computed", "ended"]
    assert second.lines == ["began", "granted", "shared", "ended"]
    assert third.lines == ["ended: kept"]
