"""Server-sent events: the status line waits for the first item, silence is filled with comments, errors are events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from starlette.responses import StreamingResponse

from app.api.json_text import line_of
from app.api.record import RequestRecord
from app.errors import PipeserveError

KEEP_ALIVE_S = 15.0
COMMENT = b": keep-alive\n\n"

T = TypeVar("T")


def event(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), line_of(data))


@dataclass
class _Silence:
    """Nothing came for a while."""


@dataclass
class _Items(Generic[T]):
    """An iterator that says when it is silent. One task at a time asks for the next item, and outlives the silence."""

    source: AsyncIterator[T]
    silence_s: float
    _next: asyncio.Task[T] | None = field(default=None, init=False)

    async def next(self) -> T | _Silence:
        """Raises what the source raises."""
        if self._next is None:
            self._next = asyncio.create_task(_anext(self.source))
        done, _ = await asyncio.wait({self._next}, timeout=self.silence_s)
        if not done:
            return _Silence()
        task, self._next = self._next, None
        return task.result()

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next})
        await _close(self.source)


async def _anext(source: AsyncIterator[T]) -> T:
    return await anext(source)


class _End:
    """A task may not raise StopAsyncIteration, so the end is a value."""


async def _ended_by_value(source: AsyncIterator[T]) -> AsyncIterator[T | _End]:
    try:
        async for item in source:
            yield item
    finally:
        await _close(source)
    yield _End()


async def _close(source: AsyncIterator[T]) -> None:
    if isinstance(source, AsyncGenerator):
        await source.aclose()


async def stream_events(
    source: AsyncIterator[T],
    record: RequestRecord,
    *,
    to_event: Callable[[T], bytes],
    error_event: Callable[[PipeserveError], bytes],
    keep_alive: bytes = COMMENT,
    keep_alive_s: float = KEEP_ALIVE_S,
    media_type: str = "text/event-stream",
) -> StreamingResponse:
    """Raises what the source raises before its first item or silence; later errors are events, and the record's.

    keep_alive: what silence is filled with.
    """
    items = _Items(_ended_by_value(source), keep_alive_s)
    try:
        first = await items.next()
    except BaseException:
        await items.close()
        raise

    async def chunks() -> AsyncIterator[bytes]:
        item = first
        try:
            while not isinstance(item, _End):
                yield keep_alive if isinstance(item, _Silence) else to_event(item)
                item = await items.next()
        except PipeserveError as error:
            record.code = error.code
            yield error_event(error)
        finally:
            await items.close()

    return StreamingResponse(chunks(), media_type=media_type, headers={"cache-control": "no-cache"})
