"""Memory as /proc tells it, and the words of running out."""

from __future__ import annotations

import pytest

from app.worker.memory import (
    host_bytes,
    is_device_lost,
    is_out_of_memory,
    model_bytes,
    private_and_weights_bytes,
    rss_bytes,
)

SMAPS = """\
7f0000000000-7f0000100000 r--s 00000000 08:01 42                         /models/a b/model.safetensors
Size:               1024 kB
Rss:                 800 kB
Private_Clean:       800 kB
Private_Dirty:         0 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
Size:               1024 kB
Rss:                 500 kB
Private_Clean:        10 kB
Private_Dirty:       300 kB
7f0000400000-7f0000500000 r-xp 00000000 08:01 43                         /usr/lib/libtorch.so
Rss:                 900 kB
Private_Clean:         0 kB
Private_Dirty:         4 kB
"""


class OutOfMemoryError(RuntimeError):
    """torch's, by its name."""


class AcceleratorError(RuntimeError):
    """torch's, by its name."""


def test_private_pages_and_weights_count_once() -> None:
    """Weight files by what is resident, everything else by what is private."""
    assert private_and_weights_bytes(SMAPS.splitlines(keepends=True)) == (800 + 310 + 4) * 1024


def test_this_process_occupies_something() -> None:
    """Both figures are read from the running system."""
    assert rss_bytes() > 2**20
    assert host_bytes() > 2**20


def test_what_is_yet_to_be_taken_counts_where_it_will_lie() -> None:
    """The host's part where the model begins."""
    taken = model_bytes(("cuda:0", "cuda:1"), {"cuda:0": 2**40, "cuda:1": 7})
    assert taken["cuda:1"] == 7 and taken["cuda:0"] > 2**40 + 2**20


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error: Exception, expected: bool) -> None:
    """By type on devices, by its words on CPU."""
    assert is_out_of_memory(error) is expected


def test_a_lost_device_is_recognised() -> None:
    """A device-side assertion is not one input's error."""
    assert is_device_lost(AcceleratorError("CUDA error: device-side assert triggered"))
    assert not is_device_lost(RuntimeError("shape"))
