"""Calls that the model may make: held to the schema once they begin, where that can be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.runtime.chat.format import ChatFormat
from app.runtime.structure.grammars import Grammars, TokenMatcher
from tests.tiny import chat as tiny_chat

STRICT: dict[str, Any] = {
    "name": "weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}}, "required": ["unit"]},
}
FREE = {"name": "free"}
END = 258


def chat_of(*functions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [], "tools": [{"type": "function", "function": one} for one in functions], **more}


def matcher_of(tokenizer: Any, chat: dict[str, Any]) -> TokenMatcher:
    structure = ChatFormat(tokenizer, tokenizer).structure_of_strict(chat)
    assert structure is not None
    grammars = Grammars(tokenizer, vocabulary_size=len(tokenizer), end_ids=[END])
    return grammars.compile(structure, param="tools").matcher()


def takes(matcher: TokenMatcher, tokens: Sequence[int]) -> bool:
    return all(matcher.accept(token) for token in tokens)


def may_end(matcher: TokenMatcher) -> bool:
    mask = np.zeros((len(tiny_chat.tokenizer()) + 31) // 32, dtype=np.int32)
    matcher.fill(mask)
    return bool(np.unpackbits(mask.view(np.uint8), bitorder="little")[END])


def without_marks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tokenizer that has no tokens for them."""
    monkeypatch.setattr(tiny_chat, "MARKS", ())
    return tiny_chat.tokenizer()


@pytest.mark.parametrize("has_marks", [True, False])
def test_arguments_follow_the_schema_once_a_call_begins(monkeypatch: pytest.MonkeyPatch, has_marks: bool) -> None:
    """Text is free before and behind it; a tool that is not strict takes any object."""
    tokenizer = tiny_chat.tokenizer() if has_marks else without_marks(monkeypatch)
    call = '<tool_call>\n{"name": "weather", "arguments": {"unit": "c"}}\n</tool_call>'
    other = '<tool_call>\n{"name": "free", "arguments": {"any": [1]}}\n</tool_call>'
    good = matcher_of(tokenizer, chat_of(STRICT, FREE))
    assert takes(good, tokenizer.encode("a < b, so")) and may_end(good)
    assert takes(good, tokenizer.encode(f"\n{call}\n{other}")) and may_end(good)
    assert takes(good, tokenizer.encode(" done")) and may_end(good)
    for wrong in (call.replace('"c"', '"k"'), call.replace("weather", "fly"), call.replace("unit", "colour")):
        assert not takes(matcher_of(tokenizer, chat_of(STRICT, FREE)), tokenizer.encode(wrong))


def test_thoughts_have_their_marks() -> None:
    """Tokens of their own are no text to a grammar unless it names them."""
    tokenizer = tiny_chat.tokenizer()
    assert takes(matcher_of(tokenizer, chat_of(STRICT)), tokenizer.encode("<think>so</think>yes"))


@pytest.mark.parametrize(
    ("chat", "template"),
    [
        (chat_of(FREE), tiny_chat.CHAT_TEMPLATE),
        (chat_of(STRICT, tool_choice={"mode": "none"}), tiny_chat.CHAT_TEMPLATE),
        (chat_of(STRICT), "{{ tools }}[TOOL_CALLS]"),
        (chat_of(STRICT), "{{ tools }}<|python_tag|>"),
    ],
)
def test_what_is_not_held(chat: dict[str, Any], template: str) -> None:
    """Nothing strict, no call at all, and styles without a mark behind each call."""
    tokenizer = tiny_chat.tokenizer()
    tokenizer.chat_template = template
    assert ChatFormat(tokenizer, tokenizer).structure_of_strict(chat) is None
