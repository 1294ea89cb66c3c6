"""Streams of events: silence, errors, and clients that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.responses import StreamingResponse

from app.api.sse import COMMENT, event, stream_events
from app.errors import ModelFailed, PipeserveError


class Source:
    """Items are put by the test; an error ends it."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[int | PipeserveError | None] = asyncio.Queue()
        self.is_silent = asyncio.Event()
        self.was_closed = False

    async def read(self) -> AsyncIterator[int]:
        try:
            while (item := await self._next()) is not None:
                if isinstance(item, PipeserveError):
                    raise item
                yield item
        finally:
            self.was_closed = True

    async def _next(self) -> int | PipeserveError | None:
        if self.items.empty():
            self.is_silent.set()
        return await self.items.get()


async def respond(source: Source, keep_alive_s: float = 60) -> StreamingResponse:
    return await stream_events(
        source.read(),
        to_event=lambda item: event("item", item),
        error_event=lambda error: event("error", error.message),
        keep_alive_s=keep_alive_s,
    )


async def rest_of(response: StreamingResponse) -> list[object]:
    return [chunk async for chunk in response.body_iterator]


async def test_items_are_events_until_the_end() -> None:
    """In order, and then the stream ends."""
    source = Source()
    for item in (1, 2, None):
        source.items.put_nowait(item)
    assert await rest_of(await respond(source)) == [b"event: item\ndata: 1\n\n", b"event: item\ndata: 2\n\n"]


async def test_stream_without_items_is_empty() -> None:
    """And no error."""
    source = Source()
    source.items.put_nowait(None)
    assert await rest_of(await respond(source)) == []


async def test_first_error_is_raised() -> None:
    """Before the status line went out it can still say so."""
    source = Source()
    source.items.put_nowait(ModelFailed("no"))
    with pytest.raises(ModelFailed):
        await respond(source)


async def test_later_error_is_the_last_event() -> None:
    """Never a second response."""
    source = Source()
    source.items.put_nowait(1)
    source.items.put_nowait(ModelFailed("no"))
    assert (await rest_of(await respond(source)))[-1] == b'event: error\ndata: "no"\n\n'


async def test_silence_is_filled_and_loses_nothing() -> None:
    """Comments keep proxies from hanging up; the item that was waited for still comes."""
    source = Source()
    chunks = aiter((await respond(source, keep_alive_s=0.01)).body_iterator)
    assert [await anext(chunks), await anext(chunks)] == [COMMENT, COMMENT]
    source.items.put_nowait(7)
    assert event("item", 7) in [await anext(chunks), await anext(chunks)]


async def test_client_that_leaves_closes_the_source() -> None:
    """Even while it is silent."""
    source = Source()
    source.items.put_nowait(1)
    reading = asyncio.create_task(rest_of(await respond(source)))
    await source.is_silent.wait()
    reading.cancel()
    await asyncio.wait({reading})
    assert source.was_closed
