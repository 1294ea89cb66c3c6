"""Requests that the server makes itself, for those who have handed them in: answered by the same endpoints, without a
socket, a key or a place among connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
from starlette.types import Message, Scope

from app.api.access.caller import Caller
from app.api.access.door import Callers
from app.api.application import Application
from app.api.errors import error_headers, present, status_of
from app.api.middleware import RequestMiddleware
from app.batches.runner import Answer
from app.errors import PipeserveError, RateLimited, UnsupportedMedia
from app.tasks.base import JSON
from app.telemetry import Telemetry

_TEMPORARY = (429, 503)
"""Unless the answer says that it stays so."""


class Inside:
    """Owned by the event loop."""

    def __init__(
        self,
        app: Application,
        callers: Callers | None,
        anybody: Caller,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        """callers: who has a key; None: the server has none, and anybody may. clock: as of `RequestMiddleware`."""
        self._app = app
        self._callers = callers
        self._anybody = anybody
        self._telemetry = telemetry
        self._clock = clock

    async def ask(self, owner: str, endpoint: str, body: bytes, request_id: str) -> Answer:
        """A POST of JSON, of low priority, within the limits of its owner's key."""
        if self._callers is None:
            return await self._ask(self._anybody, endpoint, body, request_id)
        try:
            client = self._callers.named(owner)
            client.begin()
        except PipeserveError as error:
            return _refused(error, endpoint, request_id)
        try:
            return await self._ask(self._callers.caller_of(client), endpoint, body, request_id)
        finally:
            client.end()

    async def _ask(self, caller: Caller, endpoint: str, body: bytes, request_id: str) -> Answer:
        headers = {
            b"content-type": JSON.encode(),
            b"accept": JSON.encode(),
            b"x-priority": b"low",
            b"x-request-id": request_id.encode(),
        }
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": endpoint,
            "raw_path": endpoint.encode(),
            "query_string": b"",
            "headers": list(headers.items()),
        }
        layer = RequestMiddleware(
            self._app.answer_endpoint, caller=caller, telemetry=self._telemetry, clock=self._clock, is_inside=True
        )
        unread: list[Message] = [{"type": "http.request", "body": body}]
        head: Message = {}
        parts: list[bytes] = []

        async def receive() -> Message:
            if unread:
                return unread.pop()
            await asyncio.Event().wait()  # who asks does not leave: the task is cancelled instead
            raise AssertionError("An event that nobody sets was set. This is a bug.")

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
            else:
                parts.append(message.get("body", b""))

        await layer(scope, receive, send)
        return _answer(head, b"".join(parts), endpoint, request_id)


def _answer(head: Message, body: bytes, endpoint: str, request_id: str) -> Answer:
    headers = dict(head["headers"])
    status: int = head["status"]
    if status in _TEMPORARY and headers.get(b"x-should-retry") != b"false":
        return Answer(status, body, float(headers.get(b"retry-after", b"1")))
    kind = headers.get(b"content-type", b"").partition(b";")[0].decode("latin-1")
    if kind != JSON:
        return _refused(
            UnsupportedMedia(f"The answer is {kind or 'nothing'}; a batch holds JSON."), endpoint, request_id
        )
    return Answer(status, body)


def _refused(error: PipeserveError, endpoint: str, request_id: str) -> Answer:
    body = orjson.dumps(present(error, path=endpoint, request_id=request_id))
    retry_after_s = float(error_headers(error)["retry-after"]) if isinstance(error, RateLimited) else None
    return Answer(status_of(error, path=endpoint), body, retry_after_s)
