"""Completions as Anthropic's messages, whole and as events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from app.api.functions import arguments_of
from app.tasks.completion import Choice, Completion, Delta, ToolCall

Event = dict[str, Any]
PING: Event = {"type": "ping"}


def message_of(completion: Completion, head: dict[str, Any]) -> dict[str, Any]:
    """head: id and model."""
    choice = completion.choices[0]
    content: list[dict[str, Any]] = []
    if choice.reasoning:
        content.append({"type": "thinking", "thinking": choice.reasoning, "signature": ""})
    if choice.text:
        content.append({"type": "text", "text": choice.text})
    content += [_tool_use(call) for call in choice.tool_calls]
    usage = _usage(
        num_prompt=completion.num_prompt_tokens,
        num_cached=completion.num_cached_tokens,
        num_new=completion.num_tokens,
        num_reasoning=choice.num_reasoning_tokens,
    )
    return {**head, "type": "message", "role": "assistant", "content": content, **_reason(choice), "usage": usage}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call.arguments)}


def _reason(choice: Choice | Delta) -> dict[str, Any]:
    reason, stop = choice.finish_reason, choice.stop_reason
    if reason == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if reason == "tool_calls":
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if isinstance(stop, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _usage(*, num_prompt: int, num_cached: int, num_new: int, num_reasoning: int) -> dict[str, Any]:
    """Anthropic's `input_tokens` are those that no cache had."""
    return {
        "input_tokens": num_prompt - num_cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": num_cached,
        "output_tokens": num_new,
        "output_tokens_details": {"thinking_tokens": num_reasoning},
    }


@dataclass(slots=True)
class MessageWriter:
    """Writes one message as events: `write` for each delta, then `end`. head: id and model."""

    head: dict[str, Any]
    _index: int = field(default=-1, init=False)
    _open: str | None = field(default=None, init=False)  # the type of the open block
    _call: int | None = field(default=None, init=False)  # the index of the open call
    _has_begun: bool = field(default=False, init=False)

    def write(self, delta: Delta) -> list[Event]:
        events = self._begin(delta.num_prompt_tokens, delta.num_cached_tokens, delta.num_tokens)
        if delta.reasoning:
            events += self._block("thinking", {"thinking": "", "signature": ""})
            events.append(self._delta("thinking_delta", "thinking", delta.reasoning))
        if delta.text:
            events += self._block("text", {"text": ""})
            events.append(self._delta("text_delta", "text", delta.text))
        for part in delta.tool_calls:
            events += self._write_call(part)
        return events

    def end(self, completion: Completion) -> list[Event]:
        choice = completion.choices[0]
        events = []
        if not self._has_begun:
            whole = Delta(
                text=choice.text,
                reasoning=choice.reasoning,
                tool_calls=choice.tool_calls,
                num_prompt_tokens=completion.num_prompt_tokens,
                num_cached_tokens=completion.num_cached_tokens,
            )
            events += self.write(whole)
        usage = _usage(
            num_prompt=completion.num_prompt_tokens,
            num_cached=completion.num_cached_tokens,
            num_new=completion.num_tokens,
            num_reasoning=choice.num_reasoning_tokens,
        )
        return [
            *events,
            *self._close(),
            {"type": "message_delta", "delta": _reason(choice), "usage": usage},
            {"type": "message_stop"},
        ]

    def _begin(self, num_prompt: int, num_cached: int, num_new: int) -> list[Event]:
        if self._has_begun:
            return []
        self._has_begun = True
        message = {
            **self.head,
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(num_prompt=num_prompt, num_cached=num_cached, num_new=num_new, num_reasoning=0),
        }
        return [{"type": "message_start", "message": message}, PING]

    def _write_call(self, part: ToolCall) -> list[Event]:
        events = self._close() if self._call != part.index else []
        events += self._block("tool_use", {"id": part.id, "name": part.name, "input": {}})
        self._call = part.index
        return [*events, self._delta("input_json_delta", "partial_json", part.arguments)] if part.arguments else events

    def _block(self, kind: str, begin: dict[str, Any]) -> list[Event]:
        """Nothing if such a block is open."""
        if self._open == kind:
            return []
        events = self._close()
        self._open = kind
        self._index += 1
        return [
            *events,
            {"type": "content_block_start", "index": self._index, "content_block": {"type": kind, **begin}},
        ]

    def _delta(self, kind: str, name: str, text: str) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": {"type": kind, name: text}}

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        self._open = self._call = None
        return [{"type": "content_block_stop", "index": self._index}]
