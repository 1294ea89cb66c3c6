"""/v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from app.api.anthropic.answers import PING, Event, MessageWriter, message_of
from app.api.anthropic.body import read_messages_body, read_prompt_body
from app.api.anthropic.wanted import wanted_of
from app.api.call import Call, read_call
from app.api.errors import anthropic_body
from app.api.generating import Generating, Wanted
from app.api.record import RequestRecord, record_of
from app.api.sse import event as as_event
from app.api.sse import stream_events
from app.api.tasks import TaskAnswerer, send_stream
from app.catalog import ModelSpec
from app.errors import PipeserveError
from app.fleet.requests import JobResult

MESSAGES, COUNT_TOKENS = "v1/messages", "v1/messages/count_tokens"


class Messages:
    """Owned by the event loop. Implements `Served`."""

    paths = frozenset({MESSAGES, COUNT_TOKENS})

    def __init__(self, generating: Generating, answerer: TaskAnswerer) -> None:
        self._generating = generating
        self._answerer = answerer

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`."""
        answer = self._create if path == MESSAGES else self._count
        await answer(path_model, scope, receive, send)

    async def _create(self, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        record, call = record_of(scope), _call_of(scope)
        body = read_messages_body(await self._answerer.read_object(receive, record))
        wanted, spec = (
            wanted_of(body),
            await self._generating.choose((path_model, call.model, body.model), call, record),
        )
        head = {"id": f"msg_{secrets.token_hex(12)}", "model": body.model or spec.name}
        if body.stream:
            await self._stream(wanted, spec, MessageWriter(head), call, scope, receive, send)
            return
        (completion,), result = await self._generating.complete(spec, wanted, call, record, receive)
        await self._send(message_of(completion, head), result, spec, record, send)

    async def _count(self, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """The tokens that a message would read."""
        record, call = record_of(scope), _call_of(scope)
        body = read_prompt_body(await self._answerer.read_object(receive, record))
        wanted, spec = (
            wanted_of(body),
            await self._generating.choose((path_model, call.model, body.model), call, record),
        )
        (completion,), result = await self._generating.complete(spec, wanted, call, record, receive)
        await self._send({"input_tokens": completion.num_prompt_tokens}, result, spec, record, send)

    async def _send(
        self, told: dict[str, Any], result: JobResult, spec: ModelSpec, record: RequestRecord, send: Send
    ) -> None:
        headers = [(b"request-id", record.request_id.encode())]
        await self._answerer.send(send, orjson.dumps(told), result, spec, record, more_headers=headers)

    async def _stream(
        self,
        wanted: Wanted,
        spec: ModelSpec,
        writer: MessageWriter,
        call: Call,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        record = record_of(scope)

        async def events() -> AsyncGenerator[list[Event], None]:
            async for part in self._generating.stream(spec, wanted, call, record, receive):
                yield writer.end(part[0]) if isinstance(part, list) else writer.write(part)

        def error_event(error: PipeserveError) -> bytes:
            return as_event("error", anthropic_body(error, error.message, request_id=record.request_id))

        streaming = stream_events(
            events(), record, to_event=_as_bytes, error_event=error_event, keep_alive=as_event("ping", PING)
        )
        headers = {"request-id": record.request_id}
        await send_stream(streaming, spec, scope, receive, send, more_headers=headers)


def _as_bytes(events: Sequence[Event]) -> bytes:
    return b"".join(as_event(one["type"], one) for one in events)


def _call_of(scope: Scope) -> Call:
    """`?beta=true`, which the SDK's beta client sends, changes nothing."""
    query = b"&".join(one for one in scope["query_string"].split(b"&") if not one.startswith(b"beta="))
    return read_call(query, record_of(scope).headers)
