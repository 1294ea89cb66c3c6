"""A limit that the kernel sets to the memory of some processes, as a container's is: who goes beyond it is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_FIRST = Path("/sys/fs/cgroup/memory")
"""Of the first version of cgroups."""
_SECOND = Path("/sys/fs/cgroup")
_REAPED_WITHIN_S = 5.0


def can_limit_memory() -> bool:
    """For root, where the kernel's cgroups can be written."""
    return _place() is not None


@contextmanager
def memory_group(num_bytes: int) -> Iterator[Callable[[int], None]]:
    """Takes processes in, by their pids. What these had before does not count; they must have ended when it ends."""
    place = _place()
    assert place is not None, "There are no cgroups that could be written; ask can_limit_memory."
    parent, limits = place
    folder = parent / f"chaos-{os.getpid()}"
    folder.mkdir()
    try:
        for name, value in limits.items():
            if (folder / name).exists():  # without swap there is no limit of it
                (folder / name).write_text(str(num_bytes if value is None else value))
        yield lambda pid: _write(folder / "cgroup.procs", pid)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """As soon as the last that ended in it is reaped."""
    give_up_at = time.monotonic() + _REAPED_WITHIN_S
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(0.01)


def _write(file: Path, value: int) -> None:
    file.write_text(str(value))


def _place() -> tuple[Path, dict[str, int | None]] | None:
    """Where groups are made, and what is written into one's files; None: the limit itself."""
    if os.access(_FIRST / "cgroup.procs", os.W_OK):
        return _FIRST, {"memory.limit_in_bytes": None, "memory.memsw.limit_in_bytes": None}
    controllers = _SECOND / "cgroup.subtree_control"
    if os.access(controllers, os.W_OK) and "memory" in controllers.read_text().split():
        return _SECOND, {"memory.max": None, "memory.swap.max": 0}
    return None
