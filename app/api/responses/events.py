"""A response as it comes: its items, and the events that tell of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.api.responses.items import Item
from app.tasks.completion import Alternative, Choice, Completion, Delta, Token, ToolCall

Event = dict[str, Any]
IN_PROGRESS, COMPLETED, INCOMPLETE, FAILED = "in_progress", "completed", "incomplete", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How it is told. head: the response without what comes. summarises: thoughts as their own summary."""

    head: dict[str, Any]
    summarises: bool = False
    has_logprobs: bool = False


@dataclass(slots=True)
class _Open:
    """The item that is being written."""

    item: Item
    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)


class ResponseWriter:
    """Writes one response: `begin`, `write` for each delta, then `end` or `fail`. Each gives the events that it makes,
    numbered."""

    def __init__(self, shape: Shape, *, make_id: Callable[[str], str], clock: Callable[[], float]) -> None:
        """make_id: from a prefix. clock: unix time."""
        self._shape = shape
        self._make_id = make_id
        self._clock = clock
        self._number = 0
        self._output: list[Item] = []
        self._open: _Open | None = None
        self._call: int | None = None  # the index of the open call
        self._waiting: list[Token] = []  # whose text is yet to come
        self._has_begun = False

    @property
    def output(self) -> list[Item]:
        return self._output

    # The life of a response

    def begin(self) -> list[Event]:
        """Nothing if it has begun before."""
        if self._has_begun:
            return []
        self._has_begun = True
        told = self._response(IN_PROGRESS)
        return [self._event("response.created", response=told), self._event("response.in_progress", response=told)]

    def write(self, delta: Delta) -> list[Event]:
        events: list[Event] = []
        self._waiting += delta.tokens
        if delta.reasoning:
            events += self._write_reasoning(delta.reasoning)
        if delta.text:
            events += self._write_text(delta.text)
        for part in delta.tool_calls:
            events += self._write_call(part)
        return events

    def write_whole(self, choice: Choice) -> list[Event]:
        """All at once. An answer of nothing is a message of nothing."""
        whole = Delta(text=choice.text, reasoning=choice.reasoning, tool_calls=choice.tool_calls, tokens=choice.tokens)
        events = self.write(whole)
        return events if self._output else events + self._write_text("")

    def end(self, completion: Completion) -> tuple[dict[str, Any], list[Event]]:
        """The response, and the last events."""
        is_cut = completion.choices[0].finish_reason == "length"
        status = INCOMPLETE if is_cut else COMPLETED
        events = [] if self._output else self.write_whole(completion.choices[0])
        events += self._close(status)
        response = self._response(status) | {
            "completed_at": None if is_cut else int(self._clock()),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "usage": usage_of(completion),
        }
        return response, [*events, self._event(f"response.{status}", response=response)]

    def fail(self, message: str, *, code: str, param: str | None) -> tuple[dict[str, Any], list[Event]]:
        """What has come so far stays."""
        events = [*self.begin(), *self._close(INCOMPLETE)]
        error = self._event("error", code=code, message=message, param=param)
        response = self._response(FAILED) | {"error": {"code": "server_error", "message": message}}
        return response, [*events, error, self._event("response.failed", response=response)]

    # Items

    def _write_reasoning(self, text: str) -> list[Event]:
        events = []
        if self._open is None or self._open.item["type"] != "reasoning":
            events += self._open_item({"id": self._make_id("rs"), "type": "reasoning", "summary": []})
            events.append(self._part("added", ""))
        return [*events, self._delta(text)]

    def _write_text(self, text: str) -> list[Event]:
        events = []
        if self._open is None or self._open.item["type"] != "message":
            item = {"id": self._make_id("msg"), "type": "message", "role": "assistant", "content": []}
            events += self._open_item(item)
            events.append(self._part("added", ""))
        assert self._open is not None
        logprobs = [_with_top(one) for one in self._waiting] if self._shape.has_logprobs else []
        self._waiting = []
        self._open.logprobs += logprobs
        return [*events, self._delta(text, logprobs=logprobs)] if text else events

    def _write_call(self, part: ToolCall) -> list[Event]:
        events = []
        if self._open is None or self._open.item["type"] != "function_call" or self._call != part.index:
            item = {
                "id": self._make_id("fc"),
                "type": "function_call",
                "call_id": part.id or self._make_id("call"),
                "name": part.name or "",
                "arguments": "",
            }
            events += self._open_item(item)
            self._call = part.index
        return [*events, self._delta(part.arguments)] if part.arguments else events

    def _open_item(self, item: Item) -> list[Event]:
        events = self._close(COMPLETED)
        self._open = _Open({**item, "status": IN_PROGRESS})
        self._output.append(self._open.item)
        return [
            *events,
            self._event("response.output_item.added", output_index=self._index, item=dict(self._open.item)),
        ]

    @property
    def _index(self) -> int:
        return len(self._output) - 1

    def _close(self, status: str) -> list[Event]:
        """The open item is complete, or as complete as it will be."""
        if self._open is None:
            return []
        item, text, logprobs = self._open.item, self._open.text, self._open.logprobs
        kind = item["type"]
        events = []
        if kind == "function_call":
            item["arguments"] = text
            events.append(self._of_item("response.function_call_arguments.done", arguments=text))
        elif kind == "reasoning" and self._shape.summarises:
            item["summary"] = [{"type": "summary_text", "text": text}]
            events.append(self._of_item("response.reasoning_summary_text.done", summary_index=0, text=text))
        elif kind == "reasoning":
            item["content"] = [{"type": "reasoning_text", "text": text}]
            events.append(self._of_item("response.reasoning_text.done", content_index=0, text=text))
        else:
            item["content"] = [self._output_text(text, logprobs)]
            done = self._of_item("response.output_text.done", content_index=0, text=text, logprobs=logprobs)
            events.append(done)
        if kind != "function_call":
            events.append(self._part("done", text))
        item["status"] = status
        events.append(self._event("response.output_item.done", output_index=self._index, item=dict(item)))
        self._open = self._call = None
        return events

    # Events

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **fields}

    def _of_item(self, kind: str, **fields: Any) -> Event:
        assert self._open is not None
        return self._event(kind, item_id=self._open.item["id"], output_index=self._index, **fields)

    def _delta(self, text: str, *, logprobs: Sequence[dict[str, Any]] = ()) -> Event:
        assert self._open is not None
        self._open.text += text
        kind = self._open.item["type"]
        if kind == "function_call":
            return self._of_item("response.function_call_arguments.delta", delta=text)
        if kind == "message":
            return self._of_item("response.output_text.delta", content_index=0, delta=text, logprobs=list(logprobs))
        if self._shape.summarises:
            return self._of_item("response.reasoning_summary_text.delta", summary_index=0, delta=text)
        return self._of_item("response.reasoning_text.delta", content_index=0, delta=text)

    def _part(self, what: str, text: str) -> Event:
        """what: added or done."""
        assert self._open is not None
        if self._open.item["type"] == "message":
            part = self._output_text(text, self._open.logprobs)
        elif self._shape.summarises:
            part = {"type": "summary_text", "text": text}
            return self._of_item(f"response.reasoning_summary_part.{what}", summary_index=0, part=part)
        else:
            part = {"type": "reasoning_text", "text": text}
        return self._of_item(f"response.content_part.{what}", content_index=0, part=part)

    def _output_text(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        told = {"type": "output_text", "text": text, "annotations": []}
        return {**told, "logprobs": list(logprobs)} if self._shape.has_logprobs else told

    def _response(self, status: str) -> dict[str, Any]:
        return {**self._shape.head, "status": status, "output": [dict(one) for one in self._output]}


def usage_of(completion: Completion) -> dict[str, Any]:
    return {
        "input_tokens": completion.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": completion.num_cached_tokens, "cache_write_tokens": 0},
        "output_tokens": completion.num_tokens,
        "output_tokens_details": {
            "reasoning_tokens": sum(choice.num_reasoning_tokens for choice in completion.choices)
        },
        "total_tokens": completion.num_prompt_tokens + completion.num_tokens,
    }


def _with_top(token: Token) -> dict[str, Any]:
    return {**_ranked(token), "top_logprobs": [_ranked(one) for one in token.top]}


def _ranked(token: Token | Alternative) -> dict[str, Any]:
    data = token.data if token.data is not None else token.text.encode()
    return {"token": token.text, "logprob": token.logprob, "bytes": list(data)}
