"""Completions and their deltas in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.tasks.completion import Alternative, Choice, Completion, Delta, Token, ToolCall


def usage_of(completions: Sequence[Completion]) -> dict[str, Any]:
    choices = [choice for one in completions for choice in one.choices]
    return usage(
        num_prompt=sum(one.num_prompt_tokens for one in completions),
        num_cached=sum(one.num_cached_tokens for one in completions),
        num_new=sum(one.num_tokens for one in completions),
        num_reasoning=sum(choice.num_reasoning_tokens for choice in choices),
    )


def usage(*, num_prompt: int, num_cached: int, num_new: int, num_reasoning: int) -> dict[str, Any]:
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_new,
        "total_tokens": num_prompt + num_new,
        "prompt_tokens_details": {"cached_tokens": num_cached},
        "completion_tokens_details": {"reasoning_tokens": num_reasoning},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """One request's id, time and model, which every answer and chunk of it tells. as_ids: tokens as `token_id:7`.
    echoed: what a chat's answers begin with."""

    request_id: str
    created: int
    model: str
    names_tool: bool = False
    as_ids: bool = False
    has_logprobs: bool = False
    returns_ids: bool = False
    echoed: str = ""

    def _head(self, kind: str, prefix: str) -> dict[str, Any]:
        return {"id": f"{prefix}-{self.request_id}", "object": kind, "created": self.created, "model": self.model}

    # Chats

    def chat(self, completion: Completion) -> dict[str, Any]:
        return {
            **self._head("chat.completion", "chatcmpl"),
            "choices": [self._chat_choice(index, one) for index, one in enumerate(completion.choices)],
            "usage": usage_of([completion]),
            **self._of_prompt(completion),
        }

    def _chat_choice(self, index: int, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if choice.tool_calls and not (self.echoed or choice.text) else self.echoed + choice.text,
            "refusal": None,
        }
        if choice.reasoning:
            message["reasoning_content"] = choice.reasoning
        if choice.tool_calls:
            message["tool_calls"] = [_call(one) for one in choice.tool_calls]
        return {
            "index": index,
            "message": message,
            "logprobs": self._chat_logprobs(choice.tokens),
            "finish_reason": self.reason(choice.finish_reason),
            "stop_reason": choice.stop_reason,
            **self._ids(choice.tokens),
        }

    def chat_chunk(self, delta: Delta, *, is_first: bool) -> dict[str, Any]:
        told: dict[str, Any] = {"role": "assistant", "content": self.echoed} if is_first else {}
        if delta.text:
            told["content"] = told.get("content", "") + delta.text
        if delta.reasoning:
            told["reasoning_content"] = delta.reasoning
        if delta.tool_calls:
            told["tool_calls"] = [_call_part(one) for one in delta.tool_calls]
        choice = {
            "index": delta.choice,
            "delta": told,
            "logprobs": self._chat_logprobs(delta.tokens),
            "finish_reason": self.reason(delta.finish_reason),
            **({"stop_reason": delta.stop_reason} if delta.finish_reason else {}),
            **self._ids(delta.tokens),
        }
        return {**self._head("chat.completion.chunk", "chatcmpl"), "choices": [choice]}

    def chat_end(self) -> dict[str, Any]:
        return {**self._head("chat.completion.chunk", "chatcmpl"), "choices": []}

    def reason(self, reason: str | None) -> str | None:
        """A tool that was named is no decision of the model's: OpenAI says "stop"."""
        return "stop" if reason == "tool_calls" and self.names_tool else reason

    def _chat_logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self.has_logprobs:
            return None
        content = [{**self._ranked(one), "top_logprobs": [self._ranked(other) for other in one.top]} for one in tokens]
        return {"content": content, "refusal": None}

    def _ranked(self, token: Token | Alternative) -> dict[str, Any]:
        data = token.data if token.data is not None else token.text.encode()
        return {"token": self._name(token), "logprob": token.logprob, "bytes": list(data)}

    def _name(self, token: Token | Alternative) -> str:
        return f"token_id:{token.id}" if self.as_ids else token.text

    def _ids(self, tokens: Sequence[Token]) -> dict[str, Any]:
        return {"token_ids": [one.id for one in tokens]} if self.returns_ids else {}

    def _of_prompt(self, completion: Completion) -> dict[str, Any]:
        """vLLM's extras."""
        tokens = completion.prompt_tokens
        if tokens is None:
            return {}
        told: dict[str, Any] = {"prompt_token_ids": [one.id for one in tokens]} if self.returns_ids else {}
        if any(one.logprob is not None for one in tokens):
            told["prompt_logprobs"] = [self._prompt_logprob(one) for one in tokens]
        return told

    def _prompt_logprob(self, token: Token) -> dict[str, Any] | None:
        if token.logprob is None:
            return None
        told = {
            str(one.id): {"logprob": one.logprob, "rank": rank, "decoded_token": one.text}
            for rank, one in enumerate(token.top, start=1)
        }
        told.setdefault(str(token.id), {"logprob": token.logprob, "rank": None, "decoded_token": token.text})
        return told

    # Completions

    def completion(self, completions: Sequence[Completion]) -> dict[str, Any]:
        choices = [self._text_choice(one, choice) for one in completions for choice in one.choices]
        return {
            **self._head("text_completion", "cmpl"),
            "choices": [{"index": index, **choice} for index, choice in enumerate(choices)],
            "usage": usage_of(completions),
        }

    def _text_choice(self, completion: Completion, choice: Choice) -> dict[str, Any]:
        prompt = completion.prompt_tokens or () if completion.prompt_text is not None else ()
        return {
            "text": (completion.prompt_text or "") + choice.text,
            "logprobs": self.text_logprobs((*prompt, *choice.tokens)),
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            **self._ids(choice.tokens),
            **self._of_prompt(completion),
        }

    def completion_chunk(
        self, delta: Delta, index: int, *, before: str = "", prompt: Sequence[Token] = (), offset: int = 0
    ) -> dict[str, Any]:
        """before, prompt: with `echo`, in the first chunk. offset: of the chunk in the text."""
        choice = {
            "index": index,
            "text": before + delta.text,
            "logprobs": self.text_logprobs((*prompt, *delta.tokens), offset=offset),
            "finish_reason": delta.finish_reason,
            "stop_reason": delta.stop_reason,
            **self._ids(delta.tokens),
        }
        return {**self._head("text_completion", "cmpl"), "choices": [choice]}

    def completion_end(self) -> dict[str, Any]:
        return {**self._head("text_completion", "cmpl"), "choices": []}

    def text_logprobs(self, tokens: Sequence[Token], *, offset: int = 0) -> dict[str, Any] | None:
        """The older API's: lists side by side."""
        if not self.has_logprobs:
            return None
        offsets = []
        for one in tokens:
            offsets.append(offset)
            offset += len(one.text)
        return {
            "tokens": [self._name(one) for one in tokens],
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [
                None if one.logprob is None else {self._name(other): other.logprob for other in one.top}
                for one in tokens
            ],
            "text_offset": offsets,
        }


@dataclass(slots=True)
class RunningUsage:
    """The usage of a stream, choice by choice."""

    _latest: dict[tuple[int, int], Delta] = field(default_factory=dict)

    def add(self, delta: Delta) -> None:
        self._latest[delta.prompt, delta.choice] = delta

    def so_far(self) -> dict[str, Any]:
        prompts = {delta.prompt: delta for delta in self._latest.values()}
        return usage(
            num_prompt=sum(one.num_prompt_tokens for one in prompts.values()),
            num_cached=sum(one.num_cached_tokens for one in prompts.values()),
            num_new=sum(one.num_tokens for one in self._latest.values()),
            num_reasoning=sum(one.num_reasoning_tokens for one in self._latest.values()),
        )


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_part(call: ToolCall) -> dict[str, Any]:
    if call.name is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    return {"index": call.index, **_call(call)}
