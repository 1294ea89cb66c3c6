"""Anthropic's routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from app.api.anthropic.body import MessagesBody, PromptBody
from app.api.anthropic.endpoint import COUNT_TOKENS, MESSAGES
from app.api.openapi import Document, body_schemas, json_body, plain_operation, root_and_below

TAG = "Anthropic's API"
_EXAMPLE = {"messages": [{"role": "user", "content": "Hello!"}]}


def messages_document() -> Document:
    schemas, defined = body_schemas({MESSAGES: MessagesBody, COUNT_TOKENS: PromptBody})

    def made(parameters: list[dict[str, Any]], suffix: str) -> dict[str, Any]:
        return plain_operation(
            TAG,
            f"create_message{suffix}",
            "How a chat goes on; with `stream: true` as server-sent events.",
            parameters=parameters,
            body=json_body(schemas[MESSAGES], {**_EXAMPLE, "max_tokens": 32}),
            streams="text/event-stream",
        )

    def counted(parameters: list[dict[str, Any]], suffix: str) -> dict[str, Any]:
        return plain_operation(
            TAG,
            f"count_message_tokens{suffix}",
            "Count the tokens of a chat.",
            parameters=parameters,
            body=json_body(schemas[COUNT_TOKENS], _EXAMPLE),
        )

    return Document({**root_and_below(MESSAGES, made), **root_and_below(COUNT_TOKENS, counted)}, defined)
