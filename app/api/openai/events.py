"""OpenAI's server-sent events: data without names, `[DONE]` at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import StreamingResponse

from app.api.errors import openai_body
from app.api.json_text import line_of
from app.api.record import RequestRecord
from app.api.sse import stream_events
from app.errors import PipeserveError

DONE = b"data: [DONE]\n\n"


def data_event(value: Any) -> bytes:
    return b"data: %s\n\n" % line_of(value)


async def openai_events(events: AsyncGenerator[bytes, None], record: RequestRecord) -> StreamingResponse:
    """Raises what the events raise before the first."""

    def error_event(error: PipeserveError) -> bytes:
        return data_event(openai_body(error, f"{error.message} (request id {record.request_id})"))

    return await stream_events(events, record, to_event=lambda one: one, error_event=error_event)
