"""Work for a client that may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

from app.errors import Cancelled

T = TypeVar("T")


async def until_disconnect(receive: Receive, work: Awaitable[T]) -> T:
    """The work's result. The client's leaving cancels the work and raises Cancelled; the body has been read before."""
    worker = asyncio.current_task()
    assert worker is not None
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        worker.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not has_left or worker.uncancel() > 0:
            raise
        raise Cancelled("The client left before its answer was ready.") from None
    finally:
        watcher.cancel()
