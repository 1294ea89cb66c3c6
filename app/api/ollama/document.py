"""Ollama's routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from app.api.ollama.body import ChatBody, EmbedBody, EmbeddingsBody, GenerateBody, Options, ShowBody
from app.api.ollama.endpoint import NDJSON
from app.api.openapi import Document, body_schemas, call_parameters, json_body, plain_operation

TAG = "Ollama's API"
_POSTS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "chat": (
        ChatBody,
        "How a chat goes on, in lines of JSON; whole with `stream: false`.",
        {"messages": [{"role": "user", "content": "Hello!"}], "stream": False},
    ),
    "generate": (
        GenerateBody,
        "How a prompt goes on, in lines of JSON; whole with `stream: false`.",
        {"prompt": "Hello!", "stream": False},
    ),
    "embed": (EmbedBody, "Texts as vectors of length 1.", {"input": ["A cat sleeps.", "A dog barks."]}),
    "embeddings": (EmbeddingsBody, "A text as a vector (the older route).", {"prompt": "A cat sleeps."}),
    "show": (ShowBody, "What is known of a model.", {"model": "model"}),
}
_GETS = {"tags": "The declared models.", "ps": "The loaded models.", "version": "The version of Ollama's API."}


def ollama_document() -> Document:
    bodies = {name: body for name, (body, _, _) in _POSTS.items()}
    schemas, defined = body_schemas({**bodies, "options": Options})
    paths: dict[str, Any] = {}
    for name, (_, summary, example) in _POSTS.items():
        operation = plain_operation(
            TAG,
            f"ollama_{name}",
            summary,
            parameters=[] if name == "show" else call_parameters(with_model=True),
            body=json_body(schemas[name], example),
            streams=NDJSON if name in ("chat", "generate") else None,
        )
        paths[f"/api/{name}"] = {"post": operation}
    for name, summary in _GETS.items():
        paths[f"/api/{name}"] = {"get": plain_operation(TAG, f"ollama_{name}", summary)}
    return Document(paths, defined)
