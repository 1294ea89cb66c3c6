"""/v1/chat/completions and /v1/completions, at the root and below each model's URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from app.api.call import Call, read_call
from app.api.generating import Generating, Wanted
from app.api.openai.answers import Answerer, RunningUsage, usage_of
from app.api.openai.bodies import ChatBody, CompletionBody, SamplingBody
from app.api.openai.events import DONE, data_event, openai_events
from app.api.openai.wanted import (
    echoed_in,
    read_chat_body,
    read_completion_body,
    wanted_of_chat,
    wanted_of_completion,
)
from app.api.record import record_of
from app.api.tasks import TaskAnswerer, send_stream
from app.catalog import ModelSpec
from app.tasks.completion import Completion, Delta

CHAT, COMPLETIONS = "v1/chat/completions", "v1/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """data: as it is sent. delta: what it tells; the last chunk tells the usage instead."""

    data: dict[str, Any]
    delta: Delta | None = None
    usage: dict[str, Any] | None = None


Chunks = AsyncGenerator[Chunk, None]


class OpenAIGeneration:
    """Answers both routes. Owned by the event loop. Implements `Served`."""

    paths = frozenset({CHAT, COMPLETIONS})

    def __init__(self, generating: Generating, answerer: TaskAnswerer, *, clock: Callable[[], float]) -> None:
        """clock: unix time."""
        self._generating = generating
        self._answerer = answerer
        self._clock = clock

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """path: CHAT or COMPLETIONS. Raises the errors of `app/errors.py`."""
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        body = await self._answerer.read_object(receive, record)
        await self.answer_body(path, body, path_model, call, scope, receive, send)

    async def answer_body(
        self,
        path: str,
        body: Mapping[str, Any],
        path_model: str | None,
        call: Call,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        record = record_of(scope)
        parsed: SamplingBody
        if path == CHAT:
            parsed = read_chat_body(body)
            wanted = wanted_of_chat(parsed)
        else:
            parsed = read_completion_body(body)
            wanted = wanted_of_completion(parsed)
        spec = await self._generating.choose((path_model, call.model, parsed.model), call, record)
        answerer = Answerer(
            request_id=record.request_id,
            created=int(self._clock()),
            model=parsed.model or spec.name,
            names_tool=isinstance(parsed, ChatBody) and _names_tool(parsed),
            as_ids=bool(parsed.return_tokens_as_token_ids),
            has_logprobs=_has_logprobs(parsed),
            returns_ids=bool(parsed.return_token_ids),
            echoed=echoed_in(parsed) if isinstance(parsed, ChatBody) else "",
        )
        if parsed.stream:
            await self._stream(parsed, wanted, spec, answerer, call, scope, receive, send)
            return
        completions, result = await self._generating.complete(spec, wanted, call, record, receive)
        told = answerer.chat(completions[0]) if path == CHAT else answerer.completion(completions)
        await self._answerer.send(send, orjson.dumps(told), result, spec, record)

    async def _stream(
        self,
        body: SamplingBody,
        wanted: Wanted,
        spec: ModelSpec,
        answerer: Answerer,
        call: Call,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        record = record_of(scope)
        parts = self._generating.stream(spec, wanted, call, record, receive)
        chunks: Chunks
        if isinstance(body, CompletionBody):
            chunks = _completion_chunks(parts, answerer, body.n or 1, echoes=bool(body.echo))
        else:
            chunks = _chat_chunks(parts, answerer)
        await send_stream(openai_events(_with_usage(chunks, body), record), spec, scope, receive, send)


def _names_tool(body: ChatBody) -> bool:
    return isinstance(body.tool_choice, dict) and body.tool_choice.get("type") == "function"


def _has_logprobs(body: SamplingBody) -> bool:
    logprobs = getattr(body, "logprobs", None)
    return logprobs is not None and logprobs is not False


# Streams


async def _chat_chunks(parts: AsyncIterator[Delta | list[Completion]], answerer: Answerer) -> Chunks:
    begun: set[int] = set()
    async for part in parts:
        if isinstance(part, list):
            yield Chunk(data=answerer.chat_end(), usage=usage_of(part))
            return
        if _is_empty(part):
            continue
        chunk = answerer.chat_chunk(part, is_first=part.choice not in begun)
        begun.add(part.choice)
        yield Chunk(data=chunk, delta=part)


async def _completion_chunks(
    parts: AsyncIterator[Delta | list[Completion]], answerer: Answerer, n: int, *, echoes: bool
) -> Chunks:
    """With `echo` the prompt is known at the end of all, so that the text waits for it."""
    offsets: dict[int, int] = {}
    waiting: list[Delta] = []
    async for part in parts:
        if isinstance(part, list):
            for delta in waiting:
                completion, index = part[delta.prompt], delta.prompt * n + delta.choice
                is_first = index not in offsets
                before = (completion.prompt_text or "") if is_first else ""
                prompt = (completion.prompt_tokens or ()) if is_first else ()
                offset = offsets.get(index, 0)
                chunk = answerer.completion_chunk(delta, index, before=before, prompt=prompt, offset=offset)
                offsets[index] = offset + len(before) + len(delta.text)
                yield Chunk(data=chunk, delta=delta)
            yield Chunk(data=answerer.completion_end(), usage=usage_of(part))
            return
        if echoes:
            waiting.append(part)
        elif not _is_empty(part):
            index = part.prompt * n + part.choice
            chunk = answerer.completion_chunk(part, index, offset=offsets.get(index, 0))
            offsets[index] = offsets.get(index, 0) + len(part.text)
            yield Chunk(data=chunk, delta=part)


def _is_empty(delta: Delta) -> bool:
    return not (delta.text or delta.reasoning or delta.tool_calls or delta.tokens or delta.finish_reason)


async def _with_usage(chunks: Chunks, body: SamplingBody) -> AsyncGenerator[bytes, None]:
    """OpenAI's events: the usage where it was asked for, `[DONE]` at the end."""
    options = body.stream_options
    includes = options is not None and options.include_usage is True
    continuous = options is not None and options.continuous_usage_stats is True
    running = RunningUsage()
    async for chunk in chunks:
        if chunk.delta is None:
            if includes:
                yield data_event({**chunk.data, "usage": chunk.usage})
            continue
        running.add(chunk.delta)
        if continuous:
            chunk.data["usage"] = running.so_far()
        elif includes:
            chunk.data["usage"] = None
        yield data_event(chunk.data)
    yield DONE
