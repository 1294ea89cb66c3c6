"""Large bodies must not hold up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

LARGE_BYTES = 2**17  # what JSON may hold in a mebibyte takes a tenth of a second

T = TypeVar("T")


async def in_thread_if_large(num_bytes: int, work: Callable[[], T]) -> T:
    """What `work` returns and raises. num_bytes: of what it reads or writes."""
    return await asyncio.to_thread(work) if num_bytes > LARGE_BYTES else work()
