"""What a model writes, taken apart by its tokenizer's own response template: regions of the answer, and what each means
(`transformers.utils.chat_parsing`, 5.23)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from app.runtime.chat.parsing import Parsed, make_call_id
from app.tasks.completion import ToolCall

logger = logging.getLogger(__name__)

_REASONING = frozenset({"reasoning_content", "reasoning", "thinking"})
_CALLS = "tool_calls"


class ResponseTemplate:
    """One tokenizer's, checked once. Any thread may ask for a parser."""

    def __init__(self, spec: Any) -> None:
        """Raises ValueError for what is no response template, ImportError where transformers knows none."""
        from transformers.utils.chat_parsing.response_templates import load_response_template

        self._loaded = load_response_template(spec)
        for field in self._loaded.fields.values():
            field.optional = True  # an answer that is cut short is an answer
            if field.content == "json":
                field.content_args = {**field.content_args, "allow_non_json": True}  # what is none is text
        self._texts = list(_texts_in(spec))

    def mentions(self, mark: str) -> bool:
        """Whether it looks for this token's text, as it is or within a regular expression."""
        return any(mark in text or re.escape(mark) in text for text in self._texts)

    def parser(
        self,
        prompt: str,
        tools: Sequence[Mapping[str, Any]],
        *,
        tells_reasoning: bool = True,
        make_id: Callable[[], str] = make_call_id,
    ) -> TemplateParser:
        """prompt: a part of the answer may stand there already."""
        from transformers.utils.chat_parsing import ResponseParser

        names = [one["function"]["name"] for one in tools]
        regions = ResponseParser(self._loaded, prefix=prompt, tools=list(tools))
        return TemplateParser(regions, names, tells_reasoning=tells_reasoning, make_id=make_id)


def read_template(tokenizer: Any) -> ResponseTemplate | None:
    """None where there is none, or none that can be used, which is logged."""
    spec = getattr(tokenizer, "response_template", None)
    if spec is None:
        return None
    try:
        return ResponseTemplate(spec)
    except (ValueError, ImportError) as error:
        logger.warning("the tokenizer's response template is not used: %s", error)
        return None


class TemplateParser:
    """Reads one answer; as `OutputParser`. A call is known when its region ends, all else as it comes."""

    def __init__(
        self, regions: Any, tools: Collection[str], *, tells_reasoning: bool, make_id: Callable[[], str]
    ) -> None:
        self._regions = regions
        self._tools = tools
        self._tells_reasoning = tells_reasoning
        self._make_id = make_id
        self._num_calls = 0
        self._region = ""  # what the open one holds, for one that cannot be read
        self._spaces = {False: "", True: ""}  # by `is_reasoning`: not said until something follows
        self._has_said = {False: False, True: False}
        self._is_broken = False

    def feed(self, text: str) -> Parsed:
        return self._read(text, lambda: self._regions.feed(text))

    def finish(self) -> Parsed:
        """The answer is complete: nothing is held back any more."""
        return self._read("", lambda: self._regions.finalize()[1])

    def _read(self, text: str, events: Callable[[], list[dict[str, Any]]]) -> Parsed:
        if self._is_broken:
            return Parsed(text=text)
        try:
            return sum((self._of_event(one) for one in events()), Parsed())
        except ValueError:
            # A region does not hold what the template says, such as a number: it is text, as is all that follows.
            self._is_broken = True
            return Parsed(text=self._region + text)

    def _of_event(self, event: Mapping[str, Any]) -> Parsed:
        field, kind = event["field"], event["type"]
        if kind == "region_open":
            self._region = ""
        elif kind == "region_chunk":
            self._region += event["text"]
            if field != _CALLS:
                return self._said(event["text"], is_reasoning=field in _REASONING)
        elif field == _CALLS:
            return self._called(event["value"])
        return Parsed()

    def _said(self, text: str, *, is_reasoning: bool) -> Parsed:
        """White space around a region is none of it."""
        text = self._spaces[is_reasoning] + text
        if not self._has_said[is_reasoning]:
            text = text.lstrip()
        said = text.rstrip()
        self._spaces[is_reasoning] = text[len(said) :]
        self._has_said[is_reasoning] = self._has_said[is_reasoning] or bool(said)
        if not is_reasoning:
            return Parsed(text=said)
        return Parsed(reasoning=said if self._tells_reasoning else "")

    def _called(self, value: Any) -> Parsed:
        calls = [_function_of(one) for one in (value if isinstance(value, list) else [value])]
        if not all(name in self._tools for name, _ in calls):
            return self._said(self._region, is_reasoning=False)
        told = []
        for name, arguments in calls:
            written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            told.append(ToolCall(index=self._num_calls, id=self._make_id(), name=name, arguments=written))
            self._num_calls += 1
        return Parsed(tool_calls=tuple(told))


def _function_of(call: Any) -> tuple[str | None, Any]:
    """Name and arguments of `{"type": "function", "function": {...}}`, or of what stands in there."""
    function = call.get("function", call) if isinstance(call, dict) else {}
    if not isinstance(function, dict):
        return None, None
    return function.get("name"), function.get("arguments", function.get("parameters", {}))


def _texts_in(spec: Any) -> Iterator[str]:
    if isinstance(spec, str):
        yield spec
    elif isinstance(spec, Mapping):
        for value in spec.values():
            yield from _texts_in(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from _texts_in(value)
