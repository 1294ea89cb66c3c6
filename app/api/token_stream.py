"""A generated text as Text Generation Inference streams it: an event per token, the text with the last, no `[DONE]`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.responses import StreamingResponse

from app.api.errors import hugging_face_body
from app.api.sse import stream_events
from app.errors import InvalidInput, PipeserveError

TEXT_GENERATION = "text-generation"


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


def token_events(generated: Mapping[str, Any], *, input_length: int, has_details: bool) -> list[dict[str, Any]]:
    """generated: the task's answer, with `details`. has_details: whether the client wants them in the last event."""
    details = generated["details"]
    alternatives = details.get("top_tokens") or []
    events: list[dict[str, Any]] = []
    for place, token in enumerate(details["tokens"]):
        one = {"index": place + 1, "token": token, "generated_text": None, "details": None}
        if place < len(alternatives):
            one["top_tokens"] = alternatives[place]
        events.append(one)
    if events:
        events[-1]["generated_text"] = generated["generated_text"]
        if has_details:
            names = ("finish_reason", "generated_tokens", "seed")
            events[-1]["details"] = {**{name: details.get(name) for name in names}, "input_length": input_length}
    return events


async def stream_tokens(
    running: Callable[[], Awaitable[list[dict[str, Any]]]], *, task: str, request_id: str
) -> StreamingResponse:
    """running: gives the events. Raises what it raises, unless that takes so long that the stream has begun."""

    async def events() -> AsyncIterator[dict[str, Any]]:
        for one in await running():
            yield one

    def error_event(error: PipeserveError) -> bytes:
        return _data(hugging_face_body(error, f"{error.message} (request id {request_id})", task=task))

    response = await stream_events(events(), to_event=_data, error_event=error_event)
    response.headers["x-accel-buffering"] = "no"
    return response


def _data(value: Any) -> bytes:
    return b"data:%s\n\n" % orjson.dumps(value)
