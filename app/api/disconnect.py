"""Work for a client that may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

from app.errors import Cancelled

T = TypeVar("T")

_UNWATCHED_S = 0.01
"""Most answers of small models are there before a watcher would have begun to be of use."""


async def until_disconnect(receive: Receive, work: Awaitable[T]) -> T:
    """The work's result. The client's leaving cancels the work and raises Cancelled; the body has been read before.

    It is looked for after `_UNWATCHED_S`: a task for each request costs more than a timer.
    """
    worker = asyncio.current_task()
    assert worker is not None
    has_left = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        worker.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    timer = asyncio.get_running_loop().call_later(_UNWATCHED_S, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if not has_left or worker.uncancel() > 0:
            raise
        raise Cancelled("The client left before its answer was ready.") from None
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
