"""Compute threads are shared by those that compute."""

from __future__ import annotations

from pathlib import Path

from app.fleet.threads import Threads, available_cores, cgroup_cores
from tests.fleet.fakes import FakeClock


class Worker:
    def __init__(self, fixed_threads: int | None = None) -> None:
        self.fixed_threads = fixed_threads
        self.told: list[int] = []

    def set_threads(self, num_threads: int) -> None:
        self.told.append(num_threads)


def test_one_gets_all_but_one_core() -> None:
    """The API process and the tokenizers have the last."""
    assert Threads(9, FakeClock()).begin(Worker()) == 8


def test_everyone_gets_at_least_one() -> None:
    """On the smallest machine too, and with more workers than cores."""
    assert Threads(1, FakeClock()).begin(Worker()) == 1
    threads = Threads(3, FakeClock())
    assert [threads.begin(Worker()) for _ in range(4)] == [2, 1, 1, 1]


def test_the_sum_stays_within_the_cores() -> None:
    """A newcomer takes from those that are there, at once."""
    threads, first, second = Threads(9, FakeClock()), Worker(), Worker()
    threads.begin(first)
    threads.begin(second)
    assert (first.told[-1], second.told[-1]) == (4, 4)


def test_declared_threads_are_kept() -> None:
    """The others share the rest."""
    threads, declared, other = Threads(9, FakeClock()), Worker(6), Worker()
    assert threads.begin(declared) == 6
    assert threads.begin(other) == 2
    assert declared.told == [6]


async def test_a_grant_grows_only_after_a_second() -> None:
    """Workers that take turns keep what they have."""
    clock = FakeClock()
    threads, first, second = Threads(9, clock), Worker(), Worker()
    for worker in (first, second):
        threads.begin(worker)
    for _ in range(20):
        threads.end(first)
        await clock.advance(0.1)
        threads.begin(first)
        threads.end(second)
        await clock.advance(0.1)
        threads.begin(second)
    assert (first.told, second.told) == ([8, 4], [4])
    threads.end(second)
    await clock.advance(1.1)
    assert first.told == [8, 4, 8]


async def test_who_comes_back_gets_a_new_grant() -> None:
    """Its old one may be more than there is."""
    clock = FakeClock()
    threads, first, second = Threads(9, clock), Worker(), Worker()
    threads.begin(first)
    threads.end(first)
    await clock.advance(2)
    assert threads.begin(second) == 8
    assert threads.begin(first) == 4
    assert (first.told, second.told) == ([8, 4], [8, 4])


def test_a_worker_that_is_gone_gives_its_share_back() -> None:
    """At once: nobody takes turns with the dead."""
    threads, first, second = Threads(9, FakeClock()), Worker(), Worker()
    threads.begin(first)
    threads.begin(second)
    threads.leave(second)
    assert first.told == [8, 4, 8]
    threads.leave(second)


def test_quotas_of_control_groups_count(tmp_path: Path) -> None:
    """A container with one and a half cores has two."""
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cgroup_cores(tmp_path) == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup_cores(tmp_path) is None
    assert available_cores() >= 1


def test_quotas_of_the_first_version_count(tmp_path: Path) -> None:
    """cgroup v1 has two files."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_cores(tmp_path) == 3
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert cgroup_cores(tmp_path) is None
    assert cgroup_cores(tmp_path / "nowhere") is None
