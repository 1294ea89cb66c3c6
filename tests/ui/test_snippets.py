"""How a program asks a model, as its page shows it."""

from __future__ import annotations

import ast

import pytest

from app.tasks.base import Task
from app.tasks.registry import TASKS
from app.ui.snippets import snippets
from tests.ui.test_catalogue import card

URL = "https://models.example"


@pytest.mark.parametrize("needs_key", [False, True])
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_task_has_snippets_that_parse(task: Task, needs_key: bool) -> None:
    """With the address of this server, and a key from the environment where there are keys, never a key itself."""
    found = {name: text for name, _, text in snippets(card("acme/x"), task, url=URL, needs_key=needs_key)}
    assert {"curl", "Python", "JavaScript"} <= set(found)
    for name, text in found.items():
        assert URL in text and ("PIPESERVE_API_KEY" in text) is needs_key, name
        assert len(text) < 2000, "a file's bytes are no use to a reader"
        if name in ("Python", "openai"):
            ast.parse(text)


def test_chat_models_have_openais_client() -> None:
    """And models of vectors theirs."""
    for task in ("text-generation", "feature-extraction"):
        names = [name for name, _, _ in snippets(card("x"), TASKS[task], url=URL, needs_key=False)]
        assert "openai" in names
