"""Compute threads are granted like memory: workers that compute share the cores but one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.fleet.clock import Alarm, Clock

_LINGER_S = 1.0


class Computes(Protocol):
    """A worker. fixed_threads: what its entry declares, or 1 where an accelerator computes."""

    @property
    def fixed_threads(self) -> int | None: ...

    def set_threads(self, num_threads: int) -> None: ...


@dataclass(slots=True)
class _Share:
    granted: int = 0
    is_busy: bool = False
    counts_until: float = 0.0  # an idle worker keeps its share this long


class Threads:
    """Grants so that the sum over computing workers stays within cores - 1, and each has at least one.

    A grant shrinks at once and grows only when a neighbour has been idle for a second, so that workers that take
    turns do not have their threads changed at every turn. Workers that do not compute keep what they had last.
    """

    def __init__(self, cores: int, clock: Clock) -> None:
        self._available = max(1, cores - 1)
        self._clock = clock
        self._alarm = Alarm(clock, self._share_out)
        self._shares: dict[Computes, _Share] = {}

    def begin(self, worker: Computes) -> int:
        """The worker computes from now on: what it may use. Others, and itself, are told what changed."""
        share = self._shares.setdefault(worker, _Share())
        counted = self._counts(share)
        share.is_busy = True
        if not counted:
            self._share_out()
        return share.granted

    def end(self, worker: Computes) -> None:
        share = self._shares.get(worker)
        if share is not None and share.is_busy:
            share.is_busy = False
            share.counts_until = self._clock.now() + _LINGER_S
            self._alarm.set(share.counts_until)

    def leave(self, worker: Computes) -> None:
        """The worker is gone."""
        if self._shares.pop(worker, None) is not None:
            self._share_out()

    def close(self) -> None:
        self._alarm.cancel()

    def _counts(self, share: _Share) -> bool:
        return share.is_busy or share.counts_until > self._clock.now()

    def _share_out(self) -> None:
        counted = {worker: share for worker, share in self._shares.items() if self._counts(share)}
        fixed = sum(worker.fixed_threads or 0 for worker in counted)
        num_flexible = sum(1 for worker in counted if worker.fixed_threads is None)
        each = max(1, (self._available - fixed) // max(1, num_flexible))
        for worker, share in counted.items():
            granted = worker.fixed_threads or each
            if granted != share.granted:
                share.granted = granted
                worker.set_threads(granted)
        lingering = [share.counts_until for share in counted.values() if not share.is_busy]
        self._alarm.set(min(lingering, default=None))


def granted_alone(fixed_threads: int | None, cores: int) -> int:
    """What a worker gets while no other computes."""
    return fixed_threads or max(1, cores - 1)


def available_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: its affinity and its cgroup's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    quota = cgroup_cores(root / "sys/fs/cgroup")
    return max(1, cores if quota is None else min(cores, quota))


def cgroup_cores(cgroup: Path) -> int | None:
    """Of version 2 (`cpu.max`) or 1 (`cpu.cfs_quota_us`); None: no limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return -(-int(quota) // int(period))
