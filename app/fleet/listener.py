"""One of those who follow a load."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from app.channel.messages import Progress
from app.errors import PipeserveError
from app.fleet.requests import ModelStatus


class Listener:
    """A slow reader misses steps of the progress, never a phase and never the end. Owned by the event loop."""

    def __init__(self) -> None:
        self._progress: deque[Progress] = deque()
        self._end: ModelStatus | PipeserveError | None = None
        self._changed = asyncio.Event()

    def tell(self, progress: Progress) -> None:
        if self._progress and self._progress[-1].phase == progress.phase:
            self._progress.pop()
        self._progress.append(progress)
        self._changed.set()

    def end(self, end: ModelStatus | PipeserveError) -> None:
        self._end = end
        self._changed.set()

    async def follow(self) -> AsyncIterator[Progress | ModelStatus]:
        """Raises the error that the load ended in."""
        while True:
            while self._progress:
                yield self._progress.popleft()
            if isinstance(self._end, PipeserveError):
                raise self._end
            if self._end is not None:
                yield self._end
                return
            self._changed.clear()
            await self._changed.wait()
