"""Every field of a chat or completion: honoured, harmless, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from app.api.openai.bodies import ChatBody, CompletionBody
from app.api.openai.fields import UNUSED
from app.tasks.completion import CompletionInput, CompletionParameters
from tests.api.conftest import LiveServer

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
PROMPT = {"prompt": "once"}
MODEL = "tiny-text-generation"
HARMLESS, REFUSED = UNUSED.harmless, UNUSED.refused

HONOURED: dict[str, tuple[Any, str, Any]] = {
    "n": (2, "n", 2),
    "max_tokens": (7, "max_tokens", 7),
    "temperature": (0.5, "temperature", 0.5),
    "top_p": (0.5, "top_p", 0.5),
    "seed": (3, "seed", 3),
    "stop": ("x", "stop", ["x"]),
    "presence_penalty": (0.5, "presence_penalty", 0.5),
    "frequency_penalty": (0.5, "frequency_penalty", 0.5),
    "logit_bias": ({"5": 1.0}, "logit_bias", {"5": 1.0}),
    "response_format": ({"type": "json_object"}, "structure", {"kind": "json_object"}),
    "top_k": (5, "top_k", 5),
    "min_p": (0.1, "min_p", 0.1),
    "typical_p": (0.9, "typical_p", 0.9),
    "repetition_penalty": (1.5, "repetition_penalty", 1.5),
    "stop_token_ids": ([5], "stop_token_ids", [5]),
    "include_stop_str_in_output": (True, "include_stop_str_in_output", True),
    "ignore_eos": (True, "ignore_eos", True),
    "min_tokens": (2, "min_tokens", 2),
    "skip_special_tokens": (False, "skip_special_tokens", False),
    "truncate_prompt_tokens": (4, "truncate_prompt_tokens", 4),
    "prompt_logprobs": (2, "prompt_logprobs", 2),
    "allowed_token_ids": ([5], "allowed_token_ids", [5]),
    "bad_words": (["x"], "bad_words", ["x"]),
    "structured_outputs": ({"choice": ["a"]}, "structure", {"kind": "choice", "value": ["a"]}),
    "return_token_ids": (True, "return_token_ids", True),
    "echo": (True, "echo", True),
}
"""What is sent, the parameter of `completion` that it becomes, and its value there."""
OTHERWISE = {
    *("model", "stream", "stream_options", "keep_alive", "add_special_tokens", "return_tokens_as_token_ids"),
    *("messages", "prompt", "suffix", "best_of", "logprobs", "top_logprobs", "max_completion_tokens", "tools"),
    *("tool_choice", "parallel_tool_calls", "reasoning_effort", "add_generation_prompt", "continue_final_message"),
    *("documents", "chat_template_kwargs", "include_reasoning"),
}
"""Fields with tests of their own, or that become a part of the input."""


def test_every_field_has_its_place() -> None:
    """No field of the bodies is without a row here, and none is refused and honoured at once."""
    fields = {*ChatBody.model_fields, *CompletionBody.model_fields}
    assert fields == {*HONOURED, *OTHERWISE}
    assert not (fields & {*HARMLESS, *REFUSED}) and not (set(HARMLESS) & set(REFUSED))
    assert {name for _, name, _ in HONOURED.values()} <= set(CompletionParameters.model_fields)


@pytest.mark.parametrize("name", HONOURED)
@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", PROMPT)])
def test_field_reaches_the_worker(server: LiveServer, path: str, body: dict[str, Any], name: str) -> None:
    """As the parameter that it means."""
    value, parameter, expected = HONOURED[name]
    assert server.post(path, {**body, name: value, "model": MODEL}).status_code == 200
    assert server.fleet.jobs[-1].parameters[parameter] == expected


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_field_changes_nothing(server: LiveServer, name: str) -> None:
    """Whatever its value: the worker never hears of it."""
    assert server.post("/v1/chat/completions", CHAT).status_code == 200
    assert server.post("/v1/chat/completions", {**CHAT, name: "anything"}).status_code == 200
    plain, other = server.fleet.jobs[-2:]
    assert (plain.inputs, plain.parameters) == (other.inputs, other.parameters)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_field_is_named(server: LiveServer, name: str) -> None:
    """400 with the reason, unless it is null or says what is so anyway."""
    neutral, reason = REFUSED[name]
    answer = server.post("/v1/chat/completions", {**CHAT, name: "anything"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == name
    assert reason in answer.json()["error"]["message"] and not server.fleet.jobs
    for value in (None, *neutral):
        assert server.post("/v1/chat/completions", {**CHAT, name: value}).status_code == 200


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"reasoning_effort": "none"},
            {"chat_template_kwargs": {"reasoning_effort": "none", "enable_thinking": False}},
        ),
        ({"chat_template_kwargs": {"a": 1}}, {"chat_template_kwargs": {"a": 1}}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"continue_final_message": True}, {"continue_final_message": True}),
        ({"add_generation_prompt": False}, {"add_generation_prompt": False}),
        ({"documents": [{"text": "x"}]}, {"documents": [{"text": "x"}]}),
        ({"include_reasoning": False}, {"include_reasoning": False}),
        ({"tool_choice": "none"}, {"tool_choice": {"mode": "none"}}),
    ],
)
def test_field_is_a_part_of_the_chat(server: LiveServer, given: dict[str, Any], expected: dict[str, Any]) -> None:
    """What the template or the reader of the answer is told."""
    assert server.post("/v1/chat/completions", {**CHAT, **given}).status_code == 200
    (one_input,) = server.fleet.jobs[-1].inputs
    for name, value in expected.items():
        assert name in CompletionInput.model_fields and one_input[name] == value
