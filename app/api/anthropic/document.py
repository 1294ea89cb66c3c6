"""Anthropic's routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from app.api.anthropic.body import MessagesBody, PromptBody
from app.api.anthropic.endpoint import COUNT_TOKENS, MESSAGES
from app.api.openapi import REF, Document, call_parameters, json_body, plain_operation

TAG = "Anthropic's API"
_EXAMPLE = {"messages": [{"role": "user", "content": "Hello!"}]}


def messages_document() -> Document:
    adapters: list[Any] = [(body, "validation", TypeAdapter(body)) for body in (MessagesBody, PromptBody)]
    parts, defined = TypeAdapter.json_schemas(adapters, ref_template=REF)
    schemas = {body: schema for (body, _), schema in parts.items()}
    made = plain_operation(
        TAG,
        "create_message",
        "How a chat goes on; with `stream: true` as server-sent events.",
        parameters=call_parameters(with_model=True),
        body=json_body(schemas[MessagesBody], {**_EXAMPLE, "max_tokens": 32}),
        streams="text/event-stream",
    )
    counted = plain_operation(
        TAG,
        "count_message_tokens",
        "Count the tokens of a chat.",
        parameters=call_parameters(with_model=True),
        body=json_body(schemas[PromptBody], _EXAMPLE),
    )
    return Document({MESSAGES: {"post": made}, COUNT_TOKENS: {"post": counted}}, defined.get("$defs", {}))
