"""OpenAI's routes in the OpenAPI document."""

from __future__ import annotations

from functools import partial
from typing import Any

from app.api.fields import Body
from app.api.openai.bodies import ChatBody, CompletionBody
from app.api.openai.embeddings import EMBEDDINGS, EmbeddingBody
from app.api.openai.endpoint import CHAT, COMPLETIONS
from app.api.openai.moderations import MODERATIONS, ModerationBody
from app.api.openapi import Document, body_schemas, error_answers, json_body, root_and_below
from app.tasks.base import JSON

TAG = "OpenAI's API"
_PLACES: dict[str, tuple[type[Body], str, dict[str, Any]]] = {
    CHAT: (
        ChatBody,
        "How a chat goes on; with `stream: true` as server-sent events.",
        {"messages": [{"role": "user", "content": "Hello!"}], "max_completion_tokens": 32},
    ),
    COMPLETIONS: (
        CompletionBody,
        "How a prompt goes on; with `stream: true` as server-sent events.",
        {"prompt": "Once upon a time", "max_tokens": 16},
    ),
    EMBEDDINGS: (EmbeddingBody, "Texts as vectors.", {"input": ["A cat sleeps.", "A dog barks."]}),
    MODERATIONS: (ModerationBody, "Which categories of harm texts are of.", {"input": "I loved this film."}),
}
_STREAMED = (CHAT, COMPLETIONS)
_EVENTS = {"description": "Server-sent events: chunks, then `[DONE]`."}


def openai_document() -> Document:
    """Each route at the root and below a model's URL."""
    schemas, defined = body_schemas({path: body for path, (body, _, _) in _PLACES.items()})
    paths: dict[str, Any] = {}
    for path, (_, summary, example) in _PLACES.items():
        paths |= root_and_below(path, partial(_operation, path, summary, json_body(schemas[path], example)))
    return Document(paths, defined)


def _operation(
    path: str, summary: str, body: dict[str, Any], parameters: list[dict[str, Any]], suffix: str
) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": {"type": "object"}}}
    if path in _STREAMED:
        content["text/event-stream"] = {"schema": _EVENTS}
    return {
        "tags": [TAG],
        "summary": summary,
        "operationId": path.replace("/", "_") + suffix,
        "parameters": parameters,
        "requestBody": body,
        "responses": {"200": {"description": "The answer, in OpenAI's shape.", "content": content}, **error_answers()},
    }
