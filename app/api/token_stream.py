"""A generated text as Text Generation Inference streams it: an event per token, the text with the last, no `[DONE]`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.responses import StreamingResponse

from app.api.errors import hugging_face_body
from app.api.json_text import line_of
from app.api.record import RequestRecord
from app.api.sse import stream_events
from app.errors import InvalidInput, PipeserveError
from app.fleet.requests import JobResult
from app.tasks.completion import Delta, Token

TEXT_GENERATION = "text-generation"
STREAMED_TASKS = (TEXT_GENERATION, "text2text-generation", "summarization", "translation")
"""Tasks whose answer is one text, and whose own routes stream it."""


def read_stream(value: Any) -> bool:
    """`stream` at the root of a body. Raises InvalidInput."""
    if value is not None and not isinstance(value, bool):
        raise InvalidInput("stream must be true or false.", param="stream")
    return value is True


def streaming_parameters(parameters: Any, declared: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a generation whose tokens are to be streamed. declared: the model's own, which stand behind them.
    Raises InvalidInput for what no stream can hold."""
    if not isinstance(parameters, Mapping):
        raise InvalidInput("parameters must be an object.", param="parameters")
    wanted = {**declared, **parameters}
    for name in ("best_of", "num_return_sequences"):
        if wanted.get(name) not in (None, 1):
            raise InvalidInput(f"parameters.{name}: a stream is one answer.", param=f"parameters.{name}")
    if wanted.get("decoder_input_details"):
        name = "parameters.decoder_input_details"
        raise InvalidInput(f"{name}: a stream has no place for the prompt's tokens.", param=name)
    return {**parameters, "details": True}


async def token_events(
    parts: AsyncIterator[Delta | JobResult], *, has_details: bool
) -> AsyncGenerator[dict[str, Any], None]:
    """One event for each token; the last one has the text, whatever its task calls it, and the details if the client
    wants them. parts: of a job of STREAMED_TASKS."""
    last: dict[str, Any] | None = None
    num_tokens = 0
    async for part in parts:
        if isinstance(part, JobResult):
            if last is not None:
                yield last | _end_of(part, has_details)
            return
        for token in part.tokens:
            if last is not None:
                yield last
            num_tokens += 1
            last = {"index": num_tokens, "token": _shown(token), "generated_text": None, "details": None}
            if token.top:
                last["top_tokens"] = [
                    {"id": one.id, "text": one.text, "logprob": one.logprob, "special": False} for one in token.top
                ]
        if last is not None and part.finish_reason is None:
            yield last  # nothing is known yet that would make it the last one
            last = None


def _shown(token: Token) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": token.logprob, "special": token.is_special}


def _end_of(result: JobResult, has_details: bool) -> dict[str, Any]:
    (generated,) = orjson.loads(result.outputs[0])
    of_answer = generated.pop("details")
    (text,) = generated.values()
    end = {"generated_text": text}
    if not has_details:
        return end
    names = ("finish_reason", "generated_tokens", "seed")
    details = {name: of_answer.get(name) for name in names}
    return {**end, "details": {**details, "input_length": result.num_tokens}}


async def stream_tokens(events: AsyncIterator[dict[str, Any]], record: RequestRecord) -> StreamingResponse:
    """Raises what the events raise before the first, unless that takes so long that the stream has begun."""

    def error_event(error: PipeserveError) -> bytes:
        return _data(hugging_face_body(error, f"{error.message} (request id {record.request_id})", task=record.task))

    response = await stream_events(events, record, to_event=_data, error_event=error_event)
    response.headers["x-accel-buffering"] = "no"
    return response


def _data(value: Any) -> bytes:
    return b"data:%s\n\n" % line_of(value)
