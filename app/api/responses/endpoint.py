"""/v1/responses and what stands below it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from app.api.call import Call, read_call
from app.api.errors import row_of
from app.api.generating import Generating, Wanted
from app.api.pages import page_of, read_list_query
from app.api.record import RequestRecord, record_of
from app.api.responses.body import InputBody, ResponseBody, read_input_body, read_reasoning, read_response_body
from app.api.responses.events import Event, ResponseWriter, Shape
from app.api.responses.items import Item, read_items
from app.api.responses.store import Kept, ResponseStore
from app.api.responses.wanted import wanted_of
from app.api.routing import answer_routes
from app.api.sse import event as as_event
from app.api.sse import stream_events
from app.api.tasks import TaskAnswerer, send_stream
from app.catalog import ModelSpec
from app.errors import InvalidInput, NotServed, PipeserveError
from app.tasks.base import JSON

RESPONSES, INPUT_TOKENS = "v1/responses", "v1/responses/input_tokens"
ONE_RESPONSE = f"{RESPONSES}/{{response_id}}"
MAX_PAGE, USUAL_PAGE = 100, 20


def make_id(prefix: str) -> str:
    """Not to be guessed: who knows the id of a response may read it, on a server without keys."""
    return f"{prefix}_{secrets.token_hex(24)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One request for a response. before: the items of the response that it goes on from. owner: its key's name.
    is_kept: to be asked for later."""

    body: ResponseBody
    inputs: list[Item]
    before: list[Item]
    wanted: Wanted
    spec: ModelSpec
    call: Call
    owner: str
    is_kept: bool


class Responses:
    """Owned by the event loop. Implements `Served`."""

    paths = frozenset({RESPONSES, INPUT_TOKENS})

    def __init__(
        self, generating: Generating, answerer: TaskAnswerer, store: ResponseStore, *, clock: Callable[[], float]
    ) -> None:
        """clock: unix time."""
        self._generating = generating
        self._answerer = answerer
        self._store = store
        self._clock = clock

    # Making them

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`."""
        answer = self._create if path == RESPONSES else self._count
        await answer(path_model, scope, receive, send)

    async def _create(self, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        body = read_response_body(await self._answerer.read_object(receive, record))
        inputs, before = self._items(body, record)
        wanted = wanted_of(body, before, inputs)
        spec = await self._generating.choose((path_model, call.model, body.model), call, record)
        asked = _Asked(
            body=body,
            inputs=inputs,
            before=before,
            wanted=wanted,
            spec=spec,
            call=call,
            owner=record.caller.name,
            is_kept=body.store is not False and not record.is_inside,
        )
        writer = ResponseWriter(self._shape(asked), make_id=make_id, clock=self._clock)
        if body.stream:
            await self._stream(asked, writer, scope, receive, send)
            return
        (completion,), result = await self._generating.complete(spec, wanted, call, record, receive)
        writer.write_whole(completion.choices[0])
        response, _ = writer.end(completion)
        self._keep(response, asked)
        await self._answerer.send(send, orjson.dumps(response), result, spec, record)

    def _items(self, body: InputBody, record: RequestRecord) -> tuple[list[Item], list[Item]]:
        """The body's own items, and those before. Raises InvalidInput."""
        inputs = read_items(() if body.input is None else body.input, make_id)
        if body.previous_response_id is None:
            return inputs, []
        before = self._store.find(body.previous_response_id, owner=record.caller.name)
        if before is None:
            param, shown = "previous_response_id", body.previous_response_id[:64]
            raise InvalidInput(f'{param}: there is no response "{shown}", or no longer.', param=param)
        return inputs, before.all_items()

    def _shape(self, asked: _Asked) -> Shape:
        body = asked.body
        reasoning = read_reasoning(body.reasoning)
        summary = reasoning.summary or reasoning.generate_summary
        text = body.text or {}
        head = {
            "id": make_id("resp"),
            "object": "response",
            "created_at": int(self._clock()),
            "status": None,
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "model": body.model or asked.spec.name,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": reasoning.effort, "summary": summary},
            "service_tier": "default",
            "store": body.store is not False,
            "temperature": body.temperature,
            "text": {**text, "format": text.get("format") or {"type": "text"}},
            "tool_choice": body.tool_choice or "auto",
            "tools": [{"description": None, "strict": None, "parameters": None, **one} for one in body.tools or ()],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
            "metadata": body.metadata or {},
        }
        return Shape(head=head, summarises=summary is not None, has_logprobs=body.has_logprobs)

    def _keep(self, response: dict[str, Any], asked: _Asked) -> None:
        if asked.is_kept:
            self._store.keep(response, asked.inputs, asked.before, owner=asked.owner)

    async def _stream(self, asked: _Asked, writer: ResponseWriter, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        events = self._events(asked, writer, record, receive)

        def error_event(error: PipeserveError) -> bytes:
            text = f"{error.message} (request id {record.request_id})"
            response, last = writer.fail(text, code=row_of(error).openai_code or error.code, param=error.param)
            self._keep(response, asked)
            return _as_bytes(last)

        streaming = stream_events(events, record, to_event=_as_bytes, error_event=error_event)
        await send_stream(streaming, asked.spec, scope, receive, send)

    async def _events(
        self, asked: _Asked, writer: ResponseWriter, record: RequestRecord, receive: Receive
    ) -> AsyncGenerator[list[Event], None]:
        async for part in self._generating.stream(asked.spec, asked.wanted, asked.call, record, receive):
            if not isinstance(part, list):
                yield [*writer.begin(), *writer.write(part)]
                continue
            first = writer.begin()
            response, last = writer.end(part[0])
            self._keep(response, asked)
            yield [*first, *last]

    async def _count(self, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """The tokens that a response would read."""
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        body = read_input_body(await self._answerer.read_object(receive, record))
        inputs, before = self._items(body, record)
        wanted = wanted_of(body, before, inputs)
        spec = await self._generating.choose((path_model, call.model, body.model), call, record)
        (completion,), result = await self._generating.complete(spec, wanted, call, record, receive)
        told = {"object": "response.input_tokens", "input_tokens": completion.num_prompt_tokens}
        await self._answerer.send(send, orjson.dumps(told), result, spec, record)

    # Those that are kept

    async def retrieve(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = read_list_query(scope, ("include", "include[]", "include_obfuscation", "stream", "starting_after"))
        if query.get("stream", "false").lower() not in ("false", "0") or "starting_after" in query:
            raise InvalidInput("stream: a response is streamed while it is made, not again.", param="stream")
        await _json(self._kept(scope).response)(scope, receive, send)

    async def delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._kept(scope)
        self._store.drop(_id_in(scope))
        await _json(orjson.dumps({"id": _id_in(scope), "object": "response", "deleted": True}))(scope, receive, send)

    async def cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._kept(scope)
        raise InvalidInput("response_id: only a response in the background can be cancelled.", param="response_id")

    async def input_items(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The response's own; the newest first, unless `order` is asc."""
        query = read_list_query(scope, ("include", "include[]", "after", "limit", "order"))
        items = self._kept(scope).input_items()
        await _json(orjson.dumps(page_of(items, query, max_items=MAX_PAGE, usual=USUAL_PAGE)))(scope, receive, send)

    def _kept(self, scope: Scope) -> Kept:
        response_id = _id_in(scope)
        kept = self._store.find(response_id, owner=record_of(scope).caller.name)
        if kept is None:
            raise NotServed(f'There is no response "{response_id[:64]}", or no longer.', param="response_id")
        return kept


def _as_bytes(events: Sequence[Event]) -> bytes:
    return b"".join(as_event(one["type"], one) for one in events)


def _id_in(scope: Scope) -> str:
    return str(scope["path_params"]["response_id"])


def _json(body: bytes) -> Response:
    return Response(body, media_type=JSON)


def kept_responses_routes(responses: Responses) -> list[BaseRoute]:
    """What is asked of those that are kept: below any model's URL too, for a client that knows no other."""
    return answer_routes(
        (method, f"{before}/{path}", answer)
        for before in ("", "/models/{model_id:path}")
        for method, path, answer in (
            ("GET", ONE_RESPONSE, responses.retrieve),
            ("DELETE", ONE_RESPONSE, responses.delete),
            ("POST", f"{ONE_RESPONSE}/cancel", responses.cancel),
            ("GET", f"{ONE_RESPONSE}/input_items", responses.input_items),
        )
    )
