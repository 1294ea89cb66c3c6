"""Anthropic's routes in the OpenAPI document."""

from __future__ import annotations

from app.api.anthropic.body import MessagesBody, PromptBody
from app.api.anthropic.endpoint import COUNT_TOKENS, MESSAGES
from app.api.openapi import Document, body_schemas, json_body, plain_posts

TAG = "Anthropic's API"
_EXAMPLE = {"messages": [{"role": "user", "content": "Hello!"}]}


def messages_document() -> Document:
    schemas, defined = body_schemas({MESSAGES: MessagesBody, COUNT_TOKENS: PromptBody})
    made = plain_posts(
        TAG,
        MESSAGES,
        "create_message",
        "How a chat goes on; with `stream: true` as server-sent events.",
        body=json_body(schemas[MESSAGES], {**_EXAMPLE, "max_tokens": 32}),
        streams="text/event-stream",
    )
    counted = plain_posts(
        TAG,
        COUNT_TOKENS,
        "count_message_tokens",
        "Count the tokens of a chat.",
        body=json_body(schemas[COUNT_TOKENS], _EXAMPLE),
    )
    return Document({**made, **counted}, defined)
