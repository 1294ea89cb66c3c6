"""A chat template is a program: only the model's own is run, and no dialect takes one from a request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import LiveServer

MODEL = "tiny-text-generation"
MESSAGES = [{"role": "user", "content": "Hi!"}]
TEMPLATE = "{{ messages }}"
REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"model": MODEL, "messages": MESSAGES}, "chat_template"),
    (f"/models/{MODEL}/v1/chat/completions", {"messages": MESSAGES}, "chat_template"),
    ("/v1/completions", {"model": MODEL, "prompt": "a"}, "chat_template"),
    ("/v1/embeddings", {"model": MODEL, "input": "a"}, "chat_template"),
    ("/v1/responses", {"model": MODEL, "input": "a"}, "chat_template"),
    ("/v1/messages", {"model": MODEL, "messages": MESSAGES, "max_tokens": 3}, "chat_template"),
    ("/tokenize", {"messages": MESSAGES}, "chat_template"),
    ("/score", {"text_1": "a", "text_2": "b"}, "chat_template"),
    ("/rerank", {"query": "a", "documents": ["b"]}, "chat_template"),
    ("/api/chat", {"model": MODEL, "messages": MESSAGES}, "template"),
    ("/api/generate", {"model": MODEL, "prompt": "a"}, "template"),
    ("/v1/text-generation", {"inputs": "a"}, "chat_template"),
]


@pytest.mark.parametrize(("path", "body", "name"), REQUESTS, ids=[path for path, _, _ in REQUESTS])
def test_no_template_of_a_request_is_taken(server: LiveServer, path: str, body: dict[str, Any], name: str) -> None:
    """Refused by name, in the dialect's own shape."""
    answer = server.post(path, {**body, name: TEMPLATE})
    assert answer.status_code in (400, 422), answer.text
    assert name in str(answer.json()["error"]), answer.text


def test_no_template_is_a_parameter(server: LiveServer) -> None:
    """Of a task's route."""
    answer = server.post("/v1/text-generation", {"inputs": "a", "parameters": {"chat_template": TEMPLATE}})
    assert answer.status_code == 422 and "chat_template" in answer.json()["error"]
