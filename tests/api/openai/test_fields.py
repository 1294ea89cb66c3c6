"""Every field of a chat or completion: honoured, harmless, or refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.api.openai.bodies import ChatBody, CompletionBody
from app.api.openai.fields import UNUSED
from app.tasks.completion import Choice, Completion, CompletionInput, CompletionParameters, Delta
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
}
"""What is sent, the parameter of `completion` that it becomes, and its value there."""
OTHERWISE = {
    *("model", "stream", "stream_options", "keep_alive", "add_special_tokens", "return_tokens_as_token_ids"),
    *("messages", "prompt", "suffix", "best_of", "logprobs", "top_logprobs", "max_completion_tokens", "tools"),
    *("tool_choice", "parallel_tool_calls", "reasoning_effort", "add_generation_prompt", "continue_final_message"),
    *("documents", "chat_template_kwargs", "include_reasoning", "echo"),
}
"""Fields with tests of their own, or that become a part of the input."""
VLLM: tuple[str, ...] = (
    *("n", "seed", "stop", "logprobs", "top_logprobs", "logit_bias", "presence_penalty", "frequency_penalty"),
    *("response_format", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort"),
    *("use_beam_search", "top_k", "min_p", "repetition_penalty", "length_penalty", "stop_token_ids"),
    *("include_stop_str_in_output", "ignore_eos", "min_tokens", "skip_special_tokens", "bad_words"),
    *("spaces_between_special_tokens", "truncate_prompt_tokens", "prompt_logprobs", "allowed_token_ids", "echo"),
    *("add_generation_prompt", "continue_final_message", "add_special_tokens", "documents", "chat_template"),
    *("chat_template_kwargs", "mm_processor_kwargs", "structured_outputs", "priority", "request_id"),
    *("logits_processors", "return_tokens_as_token_ids", "return_token_ids", "cache_salt", "kv_transfer_params"),
    *("vllm_xargs", "include_reasoning", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("guided_decoding_backend", "best_of", "suffix"),
)
"""What vLLM's users send (protocol.py of its chats and completions at d5dba2d)."""


def test_every_field_of_vllm_is_known() -> None:
    """Honoured, harmless or refused, each by name."""
    assert set(VLLM) <= {*HONOURED, *OTHERWISE, *HARMLESS, *REFUSED}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
        ({"stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", PROMPT)])
def test_what_cannot_be_is_named(
    server: LiveServer, path: str, body: dict[str, Any], given: dict[str, Any], param: str
) -> None:
    """400, on both routes."""
    answer = server.post(path, {**body, **given, "model": MODEL})
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["param"] or "").startswith(param) and not server.fleet.jobs


@pytest.mark.parametrize(("role", "expected"), [("assistant", "Once upon a time"), ("user", " a time")])
def test_echo_of_a_chat_begins_with_the_models_own_message(server: LiveServer, role: str, expected: str) -> None:
    """Whole and streamed; a user's message is not repeated."""
    server.fleet.completion = Completion(choices=(Choice(text=" a time", finish_reason="stop"),), num_prompt_tokens=3)
    server.fleet.deltas = [Delta(text=" a"), Delta(text=" time", finish_reason="stop")]
    messages = [{"role": "user", "content": "go on"}, {"role": role, "content": "Once upon"}]
    body = {"model": MODEL, "messages": messages, "echo": True, "continue_final_message": role == "assistant"}
    answer = server.post("/v1/chat/completions", body).json()
    assert answer["choices"][0]["message"]["content"] == expected
    assert "echo" not in server.fleet.jobs[-1].parameters
    lines = server.post("/v1/chat/completions", {**body, "stream": True}).text.splitlines()
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks if one["choices"]) == expected


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
