"""Completions in Ollama's shapes, whole and in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from app.api.functions import arguments_of
from app.fleet.requests import JobResult
from app.tasks.completion import Alternative, Choice, Completion, Delta, Token, ToolCall

_NS = 1_000_000_000


def timestamp(unix_time: float) -> str:
    return datetime.fromtimestamp(unix_time, UTC).isoformat().replace("+00:00", "Z")


@dataclass(slots=True, kw_only=True)
class Writer:
    """Writes one answer: `write` for each delta, then `end`; or `whole`. is_chat: of /api/chat, else of
    /api/generate. head: the model and the time.

    Calls of tools are told whole, as Ollama does: one is complete when the next begins, or at the end.
    """

    head: dict[str, Any]
    is_chat: bool
    has_logprobs: bool = False
    _calls: dict[int, ToolCall] = field(default_factory=dict, init=False)
    _num_told: int = field(default=0, init=False)
    _has_written: bool = field(default=False, init=False)

    def write(self, delta: Delta) -> list[dict[str, Any]]:
        """Nothing where the delta says nothing yet."""
        self._has_written = True
        for part in delta.tool_calls:
            known = self._calls.get(part.index)
            self._calls[part.index] = part if known is None else _joined(known, part)
        calls = list(self._calls.values())[self._num_told : -1]
        self._num_told += len(calls)
        if not (delta.text or delta.reasoning or calls or (self.has_logprobs and delta.tokens)):
            return []
        return [self._chunk(delta.text, delta.reasoning, calls, delta.tokens)]

    def end(self, completion: Completion, result: JobResult, *, total_s: float) -> list[dict[str, Any]]:
        choice = completion.choices[0]
        if not self._has_written:
            return [self.whole(completion, result, total_s=total_s)]
        calls = list(self._calls.values())[self._num_told :]
        last = [self._chunk("", "", calls, ())] if calls else []
        return [*last, self._chunk("", "", (), ()) | _ending(completion, choice, result, total_s)]

    def whole(self, completion: Completion, result: JobResult, *, total_s: float) -> dict[str, Any]:
        choice = completion.choices[0]
        chunk = self._chunk(choice.text, choice.reasoning, choice.tool_calls, choice.tokens)
        return chunk | _ending(completion, choice, result, total_s)

    def silence(self) -> dict[str, Any]:
        """What says nothing: Ollama's clients know no comments."""
        return self._chunk("", "", (), ())

    def loaded(self, result: JobResult, *, reason: str, total_s: float) -> dict[str, Any]:
        """Nothing was asked. reason: load or unload."""
        return {**self._chunk("", "", (), ()), "done": True, "done_reason": reason, **_durations(result, total_s)}

    def _chunk(self, text: str, reasoning: str, calls: Sequence[ToolCall], tokens: Sequence[Token]) -> dict[str, Any]:
        thinking = {"thinking": reasoning} if reasoning else {}
        logprobs = {"logprobs": [_with_top(one) for one in tokens]} if self.has_logprobs and tokens else {}
        if not self.is_chat:
            return {**self.head, "response": text, **thinking, **logprobs, "done": False}
        message: dict[str, Any] = {"role": "assistant", "content": text, **thinking}
        if calls:
            message["tool_calls"] = [_call(one) for one in calls]
        return {**self.head, "message": message, **logprobs, "done": False}


def _joined(known: ToolCall, part: ToolCall) -> ToolCall:
    return ToolCall(index=known.index, id=known.id, name=known.name, arguments=known.arguments + part.arguments)


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": arguments_of(call.arguments)}
    return {"id": call.id, "function": function}


def _ending(completion: Completion, choice: Choice, result: JobResult, total_s: float) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": "length" if choice.finish_reason == "length" else "stop",
        **_durations(result, total_s),
        "prompt_eval_count": completion.num_prompt_tokens,
        "prompt_eval_duration": _ns(result.timings.prepare_s),
        "eval_count": completion.num_tokens,
        "eval_duration": _ns(result.timings.forward_s),
    }


def _durations(result: JobResult, total_s: float) -> dict[str, int]:
    """The prompt's own computing is a part of `eval_duration`; `prompt_eval_duration` is that of reading it."""
    return {"total_duration": _ns(total_s), "load_duration": _ns(result.load_wait_s)}


def _ns(seconds: float) -> int:
    return round(seconds * _NS)


def _with_top(token: Token) -> dict[str, Any]:
    return {**_ranked(token), "top_logprobs": [_ranked(one) for one in token.top]}


def _ranked(token: Token | Alternative) -> dict[str, Any]:
    data = token.data if token.data is not None else token.text.encode()
    return {"token": token.text, "logprob": token.logprob, "bytes": list(data)}
