"""What this process occupies, and how running out of memory looks."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)$")
_WEIGHTS_SUFFIX = ".safetensors"
_CPU_ALLOCATOR = ("can't allocate memory", "not enough memory", "out of memory")


def rss_bytes() -> int:
    """Resident memory of this process, shared pages included; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def model_bytes(devices: Sequence[str], pool: Mapping[str, int]) -> dict[str, int]:
    """What the end of this process gives back, by device: private pages and resident mapped weights, which count where
    the model begins, and the memory that each device has reserved. pool: bytes that are yet to be taken."""
    taken = {device: _reserved_bytes(device) + pool.get(device, 0) for device in devices}
    taken[devices[0]] += host_bytes()
    return taken


def host_bytes() -> int:
    try:
        with open("/proc/self/smaps") as smaps:
            return private_and_weights_bytes(smaps)
    except OSError:
        return rss_bytes()


def private_and_weights_bytes(smaps: Iterable[str]) -> int:
    """Sum of private pages, and of all resident pages of safetensors files (shared with replicas, if any)."""
    num_kib = 0
    counted = ("Private_",)
    for line in smaps:
        if mapping := _MAPPING.match(line):
            counted = ("Rss:",) if mapping[1].endswith(_WEIGHTS_SUFFIX) else ("Private_",)
        elif line.startswith(counted):
            num_kib += int(line.split()[1])
    return num_kib * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host or the device ran out. (torch raises OutOfMemoryError on devices, RuntimeError on CPU.)"""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _CPU_ALLOCATOR)


def is_device_lost(error: BaseException) -> bool:
    """Whether every later call on this device will fail as well (a device-side assertion, an illegal access)."""
    return type(error).__name__ == "AcceleratorError" and not is_out_of_memory(error)


def empty_cache() -> None:
    """Give cached device memory back, so that a smaller batch finds room."""
    if (torch := _torch_with_cuda()) is not None:
        torch.cuda.empty_cache()


def _reserved_bytes(device: str) -> int:
    torch = _torch_with_cuda() if device.startswith("cuda") else None
    return 0 if torch is None else int(torch.cuda.memory_reserved(device))


def _torch_with_cuda() -> Any:
    """torch, if it is loaded here and CUDA is in use: never a reason to import or initialise either."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
