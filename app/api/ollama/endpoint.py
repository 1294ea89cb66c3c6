"""Ollama's routes: /api/chat, /api/generate, /api/embed and those about models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import orjson
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from app.api.call import Call, read_call
from app.api.errors import present
from app.api.generating import Generating, Wanted
from app.api.json_text import line_of
from app.api.ollama.answers import Writer, timestamp
from app.api.ollama.body import (
    REFUSED_PATHS,
    UNUSED_IN_CHAT,
    UNUSED_IN_EMBED,
    UNUSED_IN_GENERATE,
    UNUSED_IN_SHOW,
    ChatBody,
    EmbedBody,
    EmbeddingsBody,
    GenerateBody,
    GeneratingBody,
    NamedBody,
    ShowBody,
    is_unload,
    read_body,
    read_keep_alive,
    read_options,
)
from app.api.ollama.models import is_for_ollama, known_name, running_of, shown, tag_of
from app.api.ollama.wanted import wanted_of_chat, wanted_of_generate, wanted_of_load
from app.api.openai.embeddings import check_pooled
from app.api.record import record_of
from app.api.renaming import by_names, renamed
from app.api.routing import Answer, answer_routes
from app.api.sse import stream_events
from app.api.tasks import Answered, TaskAnswerer, send_stream
from app.catalog import ModelSpec
from app.errors import InvalidInput, NotAvailable, PipeserveError
from app.tasks.base import JSON
from app.tasks.registry import ALL_TASKS

OLLAMA_VERSION = "0.12.11"
"""Of the API that is spoken here: clients ask for at least some version."""
NDJSON = "application/x-ndjson"
_EMBEDDING = ALL_TASKS["feature-extraction"]


class Ollama:
    """Owned by the event loop."""

    def __init__(
        self,
        generating: Generating,
        answerer: TaskAnswerer,
        *,
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        """clock: unix time. timer: that of `RequestRecord.began_at`."""
        self._generating = generating
        self._answerer = answerer
        self._clock = clock
        self._timer = timer
        self._began_at = clock()

    # Texts

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = read_body(ChatBody, await self._object(scope, receive), UNUSED_IN_CHAT)
        wanted = wanted_of_chat(body) if body.messages else None
        await self._generate(body, wanted, scope, receive, send)

    async def generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = read_body(GenerateBody, await self._object(scope, receive), UNUSED_IN_GENERATE)
        wanted = wanted_of_generate(body) if body.prompt or body.images or body.suffix else None
        await self._generate(body, wanted, scope, receive, send)

    async def _object(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        return await self._answerer.read_object(receive, record_of(scope))

    async def _generate(
        self, body: GeneratingBody, wanted: Wanted | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """wanted: None for nothing but the model."""
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        names = (call.model, known_name(record.fleet, body.model))
        spec = await self._generating.choose(names, call, record)
        head = {"model": body.model or spec.name, "created_at": timestamp(self._clock())}
        writer = Writer(head=head, is_chat=isinstance(body, ChatBody), has_logprobs=bool(body.logprobs))
        if wanted is not None and body.stream is not False:
            await self._stream(wanted, spec, writer, call, scope, receive, send)
            return
        asked = wanted_of_load(body) if wanted is None else wanted
        (completion,), result = await self._generating.complete(spec, asked, call, record, receive)
        total_s = self._timer() - record.began_at
        if wanted is None:
            reason = "unload" if is_unload(body.keep_alive) else "load"
            told = writer.loaded(result, reason=reason, total_s=total_s)
        else:
            told = writer.whole(completion, result, total_s=total_s)
        await self._answerer.send(send, orjson.dumps(told), result, spec, record)

    async def _stream(
        self,
        wanted: Wanted,
        spec: ModelSpec,
        writer: Writer,
        call: Call,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        record = record_of(scope)

        async def chunks() -> AsyncGenerator[list[dict[str, Any]], None]:
            async for part in self._generating.stream(spec, wanted, call, record, receive):
                if isinstance(part, list):
                    assert record.result is not None
                    yield writer.end(part[0], record.result, total_s=self._timer() - record.began_at)
                elif told := writer.write(part):
                    yield told

        def error_line(error: PipeserveError) -> bytes:
            return _lines([present(error, path=scope["path"], request_id=record.request_id)])

        streaming = stream_events(
            chunks(),
            record,
            to_event=_lines,
            error_event=error_line,
            keep_alive=_lines([writer.silence()]),
            media_type=NDJSON,
        )
        await send_stream(streaming, spec, scope, receive, send)

    # Vectors

    async def embed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Scaled to length 1, as Ollama's are."""
        body = read_body(EmbedBody, await self._object(scope, receive), UNUSED_IN_EMBED)
        inputs = [body.input] if isinstance(body.input, str) else body.input
        if not inputs:
            raise InvalidInput("input must not be empty.", param="input")
        more = {"truncate": body.truncate is not False, "normalize": True}
        parameters = more if body.dimensions is None else {**more, "dimensions": body.dimensions}
        answered, spec = await self._vectors(body, inputs, parameters, "input", scope, receive)
        record = record_of(scope)
        total_s = self._timer() - record.began_at
        told = {
            "model": body.model or spec.name,
            "total_duration": round(total_s * 1e9),
            "load_duration": round(answered.result.load_wait_s * 1e9),
            "prompt_eval_count": answered.result.num_tokens,
        }
        vectors = b'{"embeddings":[' + b",".join(answered.fragments) + b"],"
        await self._answerer.send(send, vectors + orjson.dumps(told)[1:], answered.result, spec, record)

    async def embeddings(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The older route: one text, its vector as the model makes it."""
        body = read_body(EmbeddingsBody, await self._object(scope, receive), UNUSED_IN_EMBED)
        answered, spec = await self._vectors(body, [body.prompt], {"truncate": True}, "prompt", scope, receive)
        told = b'{"embedding":' + answered.fragments[0] + b"}"
        await self._answerer.send(send, told, answered.result, spec, record_of(scope))

    async def _vectors(
        self,
        body: NamedBody,
        inputs: Sequence[str],
        parameters: dict[str, Any],
        name: str,
        scope: Scope,
        receive: Receive,
    ) -> tuple[Answered, ModelSpec]:
        """name: what the client calls the inputs."""
        read_options(body.options)
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        spec = self._answerer.choose(_EMBEDDING, record, call.model, known_name(record.fleet, body.model))
        asked: dict[str, Any] = {"inputs": list(inputs), "parameters": parameters}
        if body.keep_alive is not None:
            asked["keep_alive"] = read_keep_alive(body.keep_alive)
        with renamed(
            by_names({"inputs[0]" if name == "prompt" else "inputs": name, "parameters.dimensions": "dimensions"})
        ):
            answered = await self._answerer.run(_EMBEDDING, spec, asked, call, record, receive)
        check_pooled(answered.fragments, spec)
        return answered, spec

    # Models

    async def tags(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = [
            tag_of(one, modified_at=self._began_at)
            for status in record_of(scope).fleet.statuses()
            if is_for_ollama(status.spec)
            for one in status.with_adapters()
        ]
        await _json({"models": told})(scope, receive, send)

    async def ps(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = [
            running_of(status, now=self._clock())
            for status in record_of(scope).fleet.statuses(("ready",))
            if is_for_ollama(status.spec)
        ]
        await _json({"models": told})(scope, receive, send)

    async def show(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = read_body(ShowBody, await self._object(scope, receive), UNUSED_IN_SHOW)
        fleet = record_of(scope).fleet
        name = known_name(fleet, body.model or body.name)
        if not name:
            raise InvalidInput("model is missing.", param="model")
        await _json(shown(fleet.status(name), modified_at=self._began_at))(scope, receive, send)

    async def version(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _json({"version": OLLAMA_VERSION})(scope, receive, send)


def _lines(chunks: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(line_of(one) + b"\n" for one in chunks)


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type=JSON)


def _refusing(path: str) -> Answer:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotAvailable(f"{path} is not served: {REFUSED_PATHS[path]}.")

    return refuse


def ollama_routes(ollama: Ollama) -> list[BaseRoute]:
    refused = [
        (method, path, _refusing(path))
        for path in REFUSED_PATHS
        for method in (("DELETE",) if path == "/api/delete" else ("HEAD", "POST") if "blobs" in path else ("POST",))
    ]
    return answer_routes(
        [
            ("POST", "/api/chat", ollama.chat),
            ("POST", "/api/generate", ollama.generate),
            ("POST", "/api/embed", ollama.embed),
            ("POST", "/api/embeddings", ollama.embeddings),
            ("POST", "/api/show", ollama.show),
            ("GET", "/api/tags", ollama.tags),
            ("GET", "/api/ps", ollama.ps),
            ("GET", "/api/version", ollama.version),
            *refused,
        ]
    )
