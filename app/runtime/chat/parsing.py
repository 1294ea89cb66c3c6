"""What a model writes, taken apart as it comes: text, thoughts, calls of tools. However it is cut into pieces, the
parts are the same; what may yet become the beginning of a call is held back."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass

from app.tasks.completion import ToolCall

THINK, END_THINK = "<think>", "</think>"
_HEADER = re.compile(r'\s*\{\s*"name"\s*:\s*"((?:[^"\\]|\\.)*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=[^\s])')
_MAX_HEADER_CHARS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStyle:
    """How a family of models writes calls: each as a JSON object with `name` and `arguments` (or `parameters`).

    begin: what stands before a call; "" if a bare object is one. end: what stands behind each. is_list: whether the
    calls stand in one JSON list.
    """

    name: str
    begin: str
    end: str
    is_list: bool = False
    arguments: str = "arguments"


HERMES = CallStyle(name="hermes", begin="<tool_call>", end="</tool_call>")
MISTRAL = CallStyle(name="mistral", begin="[TOOL_CALLS]", end="", is_list=True)
LLAMA = CallStyle(name="llama", begin="", end="", arguments="parameters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def __add__(self, other: Parsed) -> Parsed:
        return Parsed(
            text=self.text + other.text,
            reasoning=self.reasoning + other.reasoning,
            tool_calls=merged((*self.tool_calls, *other.tool_calls)),
        )

    @property
    def is_empty(self) -> bool:
        return not (self.text or self.reasoning or self.tool_calls)


def merged(calls: Collection[ToolCall]) -> tuple[ToolCall, ...]:
    """Parts of calls, those of one call as one."""
    whole: dict[int, ToolCall] = {}
    for part in calls:
        known = whole.get(part.index)
        if known is None:
            whole[part.index] = part
        else:
            whole[part.index] = ToolCall(
                index=part.index, id=known.id, name=known.name, arguments=known.arguments + part.arguments
            )
    return tuple(whole.values())


def make_call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


class OutputParser:
    """Reads one answer. style: None if no tool may be called. tools: names; a call of any other is text.

    thinks: whether thoughts are told apart. is_thinking: whether the answer begins within them.
    """

    def __init__(
        self,
        *,
        style: CallStyle | None = None,
        tools: Collection[str] = (),
        thinks: bool = False,
        is_thinking: bool = False,
        tells_reasoning: bool = True,
        make_id: Callable[[], str] = make_call_id,
    ) -> None:
        self._style = style
        self._tools = tools
        self._thinks = thinks
        self._tells_reasoning = tells_reasoning
        self._make_id = make_id
        self._buffer = ""
        self._state = self._thinking if is_thinking else self._texting
        self._num_calls = 0
        self._has_text = False
        self._follows_mark = False  # white space here belongs to the mark before
        self._call: _Call | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCall] = []

    def feed(self, text: str) -> Parsed:
        self._buffer += text
        while self._state(False):
            pass
        return self._take()

    def finish(self) -> Parsed:
        """The answer is complete: nothing is held back any more."""
        while self._state(True):
            pass
        if self._buffer:
            self._say(self._buffer)
            self._buffer = ""
        return self._take()

    def _take(self) -> Parsed:
        parsed = Parsed(text="".join(self._text), reasoning="".join(self._reasoning), tool_calls=merged(self._calls))
        self._text, self._reasoning, self._calls = [], [], []
        return parsed

    def _say(self, text: str) -> None:
        if self._state == self._thinking:
            if self._tells_reasoning:
                self._reasoning.append(text)
            return
        if not self._has_text and (self._num_calls or self._follows_mark):
            text = text.lstrip()
        self._has_text = self._has_text or bool(text.strip())
        if text:
            self._text.append(text)

    # States: each handles the start of the buffer, and says whether there is more to handle

    def _texting(self, is_end: bool) -> bool:
        if self._style is not None and not self._style.begin and not self._has_text:
            return self._maybe_bare_call(is_end)
        marks = [mark for mark in (self._begin, THINK if self._thinks and not self._has_text else None) if mark]
        found = [(place, mark) for mark in marks if (place := self._buffer.find(mark)) >= 0]
        if not found:
            kept = 0 if is_end else max((_overlap(self._buffer, mark) for mark in marks), default=0)
            self._release(len(self._buffer) - kept, holds_space=bool(self._begin) and not is_end)
            return False
        place, mark = min(found)
        before = self._buffer[:place]
        self._buffer = self._buffer[place + len(mark) :]
        if mark == THINK:
            self._say(before.strip() and before)
            self._state = self._thinking
        else:
            self._say(before.rstrip() if self._tools else before)
            self._call = _Call(mark)
            self._state = self._calling
        return True

    @property
    def _begin(self) -> str | None:
        return None if self._style is None else self._style.begin or None

    def _release(self, length: int, *, holds_space: bool) -> None:
        """White space before a call is no text: it is held back until it is known what comes."""
        text = self._buffer[:length]
        if holds_space:
            text = text.rstrip()
        self._say(text)
        self._buffer = self._buffer[len(text) :]

    def _thinking(self, is_end: bool) -> bool:
        place = self._buffer.find(END_THINK)
        if place < 0:
            kept = 0 if is_end else _overlap(self._buffer, END_THINK)
            self._say(self._buffer[: len(self._buffer) - kept])
            self._buffer = self._buffer[len(self._buffer) - kept :]
            return False
        self._say(self._buffer[:place])
        self._buffer = self._buffer[place + len(END_THINK) :]
        self._state, self._follows_mark = self._texting, True
        return True

    def _maybe_bare_call(self, is_end: bool) -> bool:
        """Llama's: the whole answer is an object, perhaps behind a mark."""
        stripped = self._buffer.lstrip().removeprefix("<|python_tag|>").lstrip()
        if stripped.startswith("{"):
            self._call = _Call(self._buffer[: len(self._buffer) - len(stripped)])
            self._buffer = stripped
            self._state = self._calling
            return True
        if stripped and not "<|python_tag|>".startswith(stripped):
            self._say(self._buffer)
            self._buffer = ""
            self._has_text = True
        return False

    def _calling(self, is_end: bool) -> bool:
        call, style = self._call, self._style
        assert call is not None and style is not None
        if style.is_list and not call.opened:
            stripped = self._buffer.lstrip()
            if not stripped and not is_end:
                return False
            if stripped.startswith("["):
                self._buffer, call.opened = stripped[1:], True
                call.raw += "["
        if call.arguments is None:
            return self._read_header(call, is_end)
        return self._read_arguments(call, is_end)

    def _read_header(self, call: _Call, is_end: bool) -> bool:
        found = _HEADER.match(self._buffer)
        if found is not None:
            name = _unescaped(found[1])
            if name not in self._tools:
                return self._give_back(call)
            call.raw += found[0]
            self._buffer = self._buffer[found.end() :]
            call.arguments = _Balance()
            self._calls.append(ToolCall(index=self._num_calls, id=self._make_id(), name=name))
            return True
        if is_end or len(self._buffer) > _MAX_HEADER_CHARS or not _may_be_header(self._buffer):
            return self._give_back(call)
        return False

    def _read_arguments(self, call: _Call, is_end: bool) -> bool:
        assert call.arguments is not None
        length = call.arguments.read(self._buffer)
        part, self._buffer = self._buffer[:length], self._buffer[length:]
        if part:
            self._calls.append(ToolCall(index=self._num_calls, arguments=part))
        if not call.arguments.is_closed:
            return False
        self._num_calls += 1
        self._call = None
        self._state = self._after_call
        return True

    def _after_call(self, is_end: bool) -> bool:
        """The object's own brace, the mark behind the call, or the next call of a list."""
        style = self._style
        assert style is not None
        rest = self._buffer.lstrip()
        closing = "}" + style.end if not style.is_list else "}"
        expected = _skipped(rest, closing)
        if expected is None and not is_end:
            return False
        rest = rest if expected is None else rest[expected:]
        if style.is_list:
            after = rest.lstrip()
            if not after and not is_end:
                return False
            if after.startswith(","):
                self._buffer = after[1:]
                self._call = _Call("", opened=True)
                self._state = self._calling
                return True
            rest = after.removeprefix("]")
        elif style is LLAMA:
            after = rest.lstrip()
            if not after and not is_end:
                return False
            if after.startswith(";"):
                rest = after[1:].lstrip()
                self._has_text = False
        self._buffer = rest
        self._state = self._texting
        self._has_text = self._has_text and style.begin != ""
        return bool(rest)

    def _give_back(self, call: _Call) -> bool:
        """It only looked like a call."""
        text = call.raw + self._buffer[:1]
        self._buffer = self._buffer[1:]
        self._call = None
        self._state = self._texting
        self._say(text)
        self._has_text = True
        return bool(self._buffer)


@dataclass(slots=True, eq=False)
class _Call:
    """raw: what was read of it before its arguments. opened: whether the bracket of a list has been read."""

    raw: str
    opened: bool = False
    arguments: _Balance | None = None


class _Balance:
    """Follows one JSON value to its end."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self._has_begun = False
        self.is_closed = False

    def read(self, text: str) -> int:
        """How many characters belong to the value."""
        for place, character in enumerate(text):
            if self._in_string:
                if self._is_escaped:
                    self._is_escaped = False
                elif character == "\\":
                    self._is_escaped = True
                elif character == '"':
                    self._in_string = False
                    if self._depth == 0:
                        return self._closed(place + 1)
                continue
            if character == '"':
                self._in_string = self._has_begun = True
            elif character in "{[":
                self._depth += 1
                self._has_begun = True
            elif character in "}]":
                if self._depth == 0:
                    return self._closed(place)  # a bare number or word ended before it
                self._depth -= 1
                if self._depth == 0:
                    return self._closed(place + 1)
            else:
                self._has_begun = self._has_begun or not character.isspace()
        return len(text)

    def _closed(self, length: int) -> int:
        self.is_closed = True
        return length


def _overlap(text: str, mark: str) -> int:
    """The longest end of the text that is a beginning of the mark."""
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0)


def _skipped(text: str, expected: str) -> int | None:
    """The length of what is expected here, white space between its parts allowed; as far as it is there. None: more
    may come."""
    place = 0
    for character in expected:
        while place < len(text) and text[place].isspace():
            place += 1
        if place == len(text):
            return None
        if text[place] != character:
            return place
        place += 1
    return place


_HEADER_START = re.compile(
    r'\s*(?:\{\s*(?:"(?:n(?:a(?:m(?:e(?:"\s*(?::\s*(?:"(?:[^"\\]|\\.)*\\?(?:"\s*(?:,\s*(?:"(?:a?r?g?u?m?e?n?t?s?'
    r'|p?a?r?a?m?e?t?e?r?s?)(?:"\s*(?::\s*)?)?)?)?)?)?)?)?)?)?)?)?)?)?$'
)


def _may_be_header(text: str) -> bool:
    return _HEADER_START.match(text) is not None


def _unescaped(name: str) -> str:
    try:
        return str(json.loads(f'"{name}"'))
    except ValueError:
        return name
