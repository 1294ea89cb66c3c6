"""Streams of events: silence, errors, and clients that leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from app.api.access.caller import nobody
from app.api.record import RequestRecord
from app.api.sse import COMMENT, event, stream_events
from app.errors import ModelFailed, PipeserveError, WorkerLost
from app.logs import ACCESS_LOGGER
from app.tasks.completion import Delta, Token
from tests.api.conftest import LiveServer
from tests.api.fake_fleet import FakeFleet


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
        RequestRecord(request_id="r-1", headers={}, began_at=0.0, caller=nobody(FakeFleet())),
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


CHAT = {"messages": [{"role": "user", "content": "hello"}], "stream": True}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate_stream", {"inputs": "a"}),
        ("/v1/text-generation", {"inputs": "a", "stream": True}),
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"prompt": "a", "stream": True}),
        ("/v1/responses", {"input": "a", "stream": True}),
        ("/v1/messages", {**CHAT, "max_tokens": 5, "model": "tiny-text-generation"}),
        ("/api/chat", CHAT),
    ],
)
def test_error_of_a_stream_stands_in_the_log(
    server: LiveServer,
    caplog: pytest.LogCaptureFixture,
    wait_until: Callable[[Callable[[], bool]], None],
    path: str,
    body: dict[str, Any],
) -> None:
    """By its code, whatever the dialect: the status was sent long before."""
    server.fleet.deltas = [Delta(text="there", tokens=(Token(id=7, text="there", logprob=-0.5),))]
    server.fleet.stream_error = WorkerLost("The worker ended.")

    def logged() -> list[Any]:
        return [vars(one)["fields"] for one in caplog.records if one.name == ACCESS_LOGGER]

    with caplog.at_level(logging.INFO, logger=ACCESS_LOGGER):
        assert server.post(path, body).status_code == 200
        wait_until(lambda: bool(logged()))
    assert [one["code"] for one in logged()] == ["worker_lost"]
