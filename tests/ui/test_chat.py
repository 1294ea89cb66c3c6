"""What a chat on a model's page asks of the server."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("gradio")

from app.ui.try_it.chat import Heard, asked, body_of, without_waiting


def body(history: list[dict[str, Any]], *, system: str = "", schema: str = "", tools: str = "") -> dict[str, Any]:
    return body_of("m", history, system, 0.5, 64.0, schema, tools, read=lambda path: f"base64 of {path}")


def test_history_is_sent_in_openais_words() -> None:
    """What the model said as well, not what it thought; a picture and its text are one message."""
    history = [
        *asked("Hello!", []),
        {"role": "assistant", "content": "Let me see.", "metadata": {"title": "Thinking"}},
        {"role": "assistant", "content": [{"type": "text", "text": "Hi."}], "metadata": None},
        *asked("What is it?", ["a.png"]),
    ]
    sent = body(history, system="Be brief.")
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hi."},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,base64 of a.png"}},
                {"type": "text", "text": "What is it?"},
            ],
        },
    ]
    assert (sent["model"], sent["stream"], sent["temperature"], sent["max_tokens"]) == ("m", True, 0.5, 64)
    assert "tools" not in sent and "response_format" not in sent


def test_schema_and_tools_are_sent() -> None:
    """As OpenAI's API takes them."""
    sent = body(asked("x", []), schema='{"type": "object"}', tools='[{"type": "function"}]')
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert sent["tools"] == [{"type": "function"}]


def test_schema_that_is_no_json_is_told() -> None:
    """Before anything is asked."""
    with pytest.raises(ValueError, match="JSON schema: this is not JSON"):
        body(asked("x", []), schema="{")


def test_thoughts_are_folded_beside_the_answer() -> None:
    """They are open while there is nothing else."""
    heard = Heard()
    assert heard.messages() == []
    heard.reasoning = "Hm."
    assert [one["metadata"]["status"] for one in heard.messages()] == ["pending"]
    heard.text = "Yes."
    thought, said = heard.messages()
    assert thought["metadata"] == {"title": "Thinking", "status": "done"} and said["content"] == "Yes."


def test_what_was_stopped_before_its_first_word_is_no_answer() -> None:
    """The model is not told that it said so."""
    said = asked("x", [])
    assert without_waiting([*said, {"role": "assistant", "content": [{"type": "text", "text": "…"}]}]) == said
    answered = [*said, {"role": "assistant", "content": "Hm"}]
    assert without_waiting(answered) == answered and without_waiting([]) == []
