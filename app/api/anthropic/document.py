"""Anthropic's routes in the OpenAPI document."""

from __future__ import annotations

from app.api.anthropic.body import MessagesBody, PromptBody
from app.api.anthropic.endpoint import COUNT_TOKENS, MESSAGES
from app.api.openapi import Document, body_schemas, call_parameters, json_body, plain_operation

TAG = "Anthropic's API"
_EXAMPLE = {"messages": [{"role": "user", "content": "Hello!"}]}


def messages_document() -> Document:
    schemas, defined = body_schemas({MESSAGES: MessagesBody, COUNT_TOKENS: PromptBody})
    made = plain_operation(
        TAG,
        "create_message",
        "How a chat goes on; with `stream: true` as server-sent events.",
        parameters=call_parameters(with_model=True),
        body=json_body(schemas[MESSAGES], {**_EXAMPLE, "max_tokens": 32}),
        streams="text/event-stream",
    )
    counted = plain_operation(
        TAG,
        "count_message_tokens",
        "Count the tokens of a chat.",
        parameters=call_parameters(with_model=True),
        body=json_body(schemas[COUNT_TOKENS], _EXAMPLE),
    )
    return Document({MESSAGES: {"post": made}, COUNT_TOKENS: {"post": counted}}, defined)
