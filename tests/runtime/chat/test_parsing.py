"""What a model writes, taken apart: the same however it is cut into pieces."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.chat.parsing import HERMES, LLAMA, MISTRAL, CallStyle, OutputParser, Parsed

CALL = '{"name": "add", "arguments": {"a": [1, {"b": "}"}], "c": "\\"<"}}'
ARGUMENTS = '{"a": [1, {"b": "}"}], "c": "\\"<"}'
OTHER = '{"name": "ping", "arguments": {}}'
CASES: list[tuple[CallStyle, dict[str, Any], str, str, str, list[tuple[str, str]]]] = [
    (HERMES, {}, "just text", "just text", "", []),
    (HERMES, {}, "a < b and <tool", "a < b and <tool", "", []),
    (HERMES, {}, f"<tool_call>\n{CALL}\n</tool_call>", "", "", [("add", ARGUMENTS)]),
    (
        HERMES,
        {},
        f"Sure.\n<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{OTHER}\n</tool_call>",
        "Sure.",
        "",
        [("add", ARGUMENTS), ("ping", "{}")],
    ),
    (HERMES, {}, "<tool_call>{not json}</tool_call>", "<tool_call>{not json}</tool_call>", "", []),
    (
        HERMES,
        {},
        '<tool_call>{"name": "fly", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "fly", "arguments": {}}</tool_call>',
        "",
        [],
    ),
    (HERMES, {}, '<tool_call>{"name": "add", "arguments": {"a": 1', "", "", [("add", '{"a": 1')]),
    (
        HERMES,
        {"thinks": True},
        f"<think>\nhm\n</think>\n\nyes <tool_call>{OTHER}</tool_call>",
        "yes",
        "\nhm\n",
        [("ping", "{}")],
    ),
    (HERMES, {"thinks": True, "is_thinking": True}, "hm, </thin</think>ok", "ok", "hm, </thin", []),
    (HERMES, {"thinks": True, "is_thinking": True, "tells_reasoning": False}, "hm</think>ok", "ok", "", []),
    (MISTRAL, {}, f"[TOOL_CALLS] [{CALL}, {OTHER}]", "", "", [("add", ARGUMENTS), ("ping", "{}")]),
    (MISTRAL, {}, "no [TOOL_", "no [TOOL_", "", []),
    (LLAMA, {}, '{"name": "add", "parameters": {"a": 1}}', "", "", [("add", '{"a": 1}')]),
    (LLAMA, {}, '<|python_tag|>{"name": "ping", "parameters": {}}', "", "", [("ping", "{}")]),
    (LLAMA, {}, '{"answer": 42}', '{"answer": 42}', "", []),
    (LLAMA, {}, 'It is {"name": "add"}', 'It is {"name": "add"}', "", []),
]


def parser_of(style: CallStyle, **more: Any) -> OutputParser:
    ids = itertools.count()
    return OutputParser(style=style, tools=["add", "ping"], make_id=lambda: f"call_{next(ids)}", **more)


def parsed(parser: OutputParser, pieces: Iterable[str]) -> Parsed:
    result = Parsed()
    for piece in pieces:
        result += parser.feed(piece)
    return result + parser.finish()


@pytest.mark.parametrize(
    ("style", "options", "written", "text", "reasoning", "calls"), CASES, ids=lambda one: str(one)[:40]
)
def test_answers_are_taken_apart(
    style: CallStyle, options: dict[str, Any], written: str, text: str, reasoning: str, calls: list[tuple[str, str]]
) -> None:
    """In one piece, letter by letter, and cut anywhere."""
    cuts = [[written], list(written), *([written[:place], written[place:]] for place in range(len(written)))]
    for pieces in cuts:
        result = parsed(parser_of(style, **options), pieces)
        assert (result.text, result.reasoning) == (text, reasoning), pieces
        assert [(call.name, call.arguments) for call in result.tool_calls] == calls, pieces
        assert [call.id for call in result.tool_calls] == [f"call_{index}" for index in range(len(calls))]


@given(st.text(alphabet='<>/tolcahink_{}[]" \n\\:,ab', max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_any_text_in_any_pieces_is_the_same(written: str, cuts: list[int]) -> None:
    """And without a call or thoughts nothing is lost of it but the white space that a call would have had around it."""
    places = sorted({0, len(written), *(cut for cut in cuts if cut < len(written))})
    pieces = [written[start:end] for start, end in itertools.pairwise(places)]
    for style in (HERMES, MISTRAL, LLAMA):
        whole = parsed(parser_of(style), [written])
        assert parsed(parser_of(style), pieces) == whole
        if not whole.tool_calls:
            assert whole.text == written


def test_arguments_are_streamed_as_they_come() -> None:
    """The name first, each piece of the arguments when it is there."""
    parser = parser_of(HERMES)
    first = parser.feed('<tool_call>{"name": "add", "arguments": {"a"')
    assert [(one.name, one.arguments) for one in first.tool_calls] == [("add", '{"a"')]
    more = parser.feed(": 1")
    assert [(one.id, one.name, one.arguments) for one in more.tool_calls] == [(None, None, ": 1")]
    assert json.loads('{"a"' + ": 1" + parser.feed("}}</tool_call>").tool_calls[0].arguments) == {"a": 1}
