"""Answers read by a tokenizer's own response template: the same however they are cut, whatever the model writes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from app.runtime.chat.parsing import Parsed
from app.runtime.chat.templated import ResponseTemplate, read_template
from tests import tiny
from tests.runtime.compute import load
from tests.tiny.chat import tokenizer

pytest.importorskip("transformers.utils.chat_parsing")

XML: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "thinking": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>\s*<function=(?P<name>[^>\n]+)>",
            "close_pattern": r"</function>\s*</tool_call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\s*(?P<value>.*?)\s*</parameter>"},
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close_pattern": r"\s*<\|im_end\|>", "content": "text"},
    },
}
"""As Qwen 3.5 writes."""
JSON: dict[str, Any] = {
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {"open": "<call>", "close": "</call>", "content": "json", "repeats": True},
        "content": {"content": "text"},
    },
}
TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}},
    {"type": "function", "function": {"name": "ping"}},
]
PROMPT = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
ADD = "<tool_call>\n<function=add>\n<parameter=a>\n7\n</parameter>\n</function>\n</tool_call>"
PING = "<tool_call><function=ping></function></tool_call>"
FLY = '<call>{"name": "fly", "arguments": {}}</call>'

CASES: list[tuple[dict[str, Any], str, str, str, str, list[tuple[str, Any]]]] = [
    (XML, PROMPT, "just text", "just text", "", []),
    (XML, PROMPT, "a < b and <tool", "a < b and <tool", "", []),
    (XML, PROMPT, f"<think>\nhm\n</think>\n\nSure.\n{ADD}\n{PING}", "Sure.", "hm", [("add", {"a": 7}), ("ping", {})]),
    (XML, PROMPT + "<think>\n", "so\n\nit is</think>\n\nyes\n", "yes", "so\n\nit is", []),
    (XML, PROMPT, "<think>cut", "", "cut", []),
    (JSON, PROMPT, 'yes<call>{"name": "ping", "arguments": {"x": "é"}}</call>', "yes", "", [("ping", {"x": "é"})]),
    (JSON, PROMPT, f"no {FLY} more", 'no {"name": "fly", "arguments": {}} more', "", []),
    (JSON, PROMPT, "no <call>{not json}</call> more", "no {not json} more", "", []),
    (JSON, PROMPT, 'no <call>{"name": "pi', 'no {"name": "pi', "", []),
]
"""Template, prompt, what the model writes; text, reasoning, calls."""


def read(template: dict[str, Any], prompt: str, pieces: list[str]) -> Parsed:
    ids = (f"id-{number}" for number in itertools.count())
    parser = ResponseTemplate(template).parser(prompt, TOOLS, make_id=lambda: next(ids))
    return sum((parser.feed(piece) for piece in pieces), Parsed()) + parser.finish()


@pytest.mark.parametrize(("template", "prompt", "written", "text", "reasoning", "calls"), CASES)
def test_parts_of_an_answer(
    template: dict[str, Any], prompt: str, written: str, text: str, reasoning: str, calls: list[tuple[str, Any]]
) -> None:
    """Whole, by letters and in pieces; arguments have the types of the tool's schema."""
    for size in (len(written), 1, 3):
        pieces = [written[start : start + size] for start in range(0, len(written), size)]
        parsed = read(template, prompt, pieces)
        assert (parsed.text, parsed.reasoning) == (text, reasoning)
        assert [(call.name, json.loads(call.arguments)) for call in parsed.tool_calls] == calls
        assert [call.index for call in parsed.tool_calls] == list(range(len(calls)))


def test_template_that_cannot_be_used_is_left_aside() -> None:
    """The model is read in its style, as if it had none."""
    fast = tokenizer()
    assert read_template(fast) is None
    fast.response_template = {"fields": {"content": {"open": 7}}}
    assert read_template(fast) is None


def test_chat_of_a_model_with_a_template_is_read_by_it(tiny_dir: Path, tmp_path: Path) -> None:
    """From its files to the answer, the special tokens that the template looks for included."""
    from app.runtime.completion import CompletionStages

    fast = tokenizer()
    fast.response_template = {
        "start_anchor": "<|im_start|>assistant\n",
        "fields": {"reasoning_content": {"open": "<|im_start|>", "close": "\n"}, "content": {"content": "text"}},
    }
    folder = tmp_path / "chatml"
    folder.mkdir()
    for file in tiny.build("chatml", tiny_dir).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    fast.save_pretrained(folder)
    stages = load(folder, "text-generation").stages("completion")
    assert isinstance(stages, CompletionStages)
    chat = {"messages": [{"role": "user", "content": "hello"}]}
    ((item,),) = stages.prepare([chat], {"max_tokens": 4})
    writer, parser = stages.text_writer(item.features, {}), stages.parser(item.features)
    assert parser is not None
    start, end = fast.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    text = writer.write([start, *fast.encode("hm\nyes"), end]) + writer.end()
    assert parser.feed(text) + parser.finish() == Parsed(text="yes", reasoning="hm")
