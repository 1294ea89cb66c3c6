"""How one model chats: its template, and how it writes thoughts and calls of tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import InvalidInput
from app.runtime.chat.parsing import END_THINK, HERMES, LLAMA, MISTRAL, THINK, CallStyle, OutputParser, Parsed
from app.runtime.chat.templated import ResponseTemplate, TemplateParser, read_template

__all__ = ["ChatFormat", "OutputParser", "Parsed", "TemplateParser"]

MAX_CALLS = 8
"""That a required call may be followed by: an end for models that know none."""
_RESERVED = frozenset({"messages", "conversation", "tools", "documents", "tokenize", "chat_template", "return_dict"})
_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
_FREE = {"whitespace_flexible": True, "whitespace_pattern": r"[ \n\t]{0,16}"}
_NO_PARAMETERS = {"properties": {}, "additionalProperties": False}
_TOOLS_TEXT = """\
You may call these tools:
{tools}
To call one, write a line of this form and nothing else:
<tool_call>
{{"name": "<the tool's name>", "arguments": {{...}}}}
</tool_call>"""


class ChatFormat:
    """owner: what has the chat template, a tokenizer or a processor. Used by one thread at a time for `render`."""

    def __init__(self, owner: Any, tokenizer: Any) -> None:
        self._owner = owner
        self._tokenizer = tokenizer
        template = getattr(owner, "chat_template", None) or getattr(tokenizer, "chat_template", None) or ""
        if isinstance(template, dict):
            template = "\n".join(str(one) for one in template.values())
        self._template: str = template
        self._takes_parts = owner is not tokenizer
        self._knows_tools = "tools" in self._template
        self._thinks = THINK in self._template or "enable_thinking" in self._template
        self._style = _style_of(self._template)
        self._response = read_template(tokenizer)

    @property
    def has_template(self) -> bool:
        return bool(self._template)

    # Into the model

    def render(self, chat: Mapping[str, Any], *, param: str) -> str:
        """The prompt as text. chat: a `CompletionInput`. Raises InvalidInput for what the template refuses."""
        return str(self._applied(self._owner, chat, chat["messages"], param, tokenize=False))

    def row(self, processor: Any, chat: Mapping[str, Any], *, param: str) -> Mapping[str, Any]:
        """The model's inputs of a chat with files, which stand decoded in their parts."""
        row: Mapping[str, Any] = self._applied(
            processor, chat, chat["messages"], param, tokenize=True, return_dict=True, return_tensors="pt"
        )
        return row

    def _applied(
        self, owner: Any, chat: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], param: str, **how: Any
    ) -> Any:
        if not self._template:
            raise InvalidInput(f"{param}: this model has no chat template; send a prompt.", param=param)
        more = dict(chat.get("chat_template_kwargs") or {})
        for name in more:
            if name in _RESERVED:
                param = "inputs.chat_template_kwargs"
                raise InvalidInput(f"{param}: {name} has a field of its own.", param=param)
        tools = self._tools(chat)
        told = [self._message(one) for one in messages]
        if tools and not self._knows_tools:
            told = _with_system(told, _TOOLS_TEXT.format(tools="\n".join(map(json.dumps, tools))))
        continues = chat.get("continue_final_message") is True
        try:
            return owner.apply_chat_template(
                told,
                tools=tools if tools and self._knows_tools else None,
                documents=chat.get("documents"),
                add_generation_prompt=not continues and chat.get("add_generation_prompt") is not False,
                continue_final_message=continues,
                **how,
                **more,
            )
        except Exception as error:  # a template is a program of the model's, which may raise anything
            raise InvalidInput(f"{param}: the model's chat template refuses it: {error}", param=param) from error

    def _tools(self, chat: Mapping[str, Any]) -> list[dict[str, Any]]:
        if (chat.get("tool_choice") or {}).get("mode") == "none":
            return []
        return [
            {"type": "function", "function": {"parameters": {"type": "object", "properties": {}}, **one["function"]}}
            for one in chat.get("tools") or ()
        ]

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """In the words that the template knows."""
        told = {name: value for name, value in message.items() if name != "content"}
        content = message.get("content")
        if told["role"] == "developer" and "developer" not in self._template:
            told["role"] = "system"
        if told["role"] in ("tool", "function") and '"tool"' not in self._template.replace("'", '"'):
            told["role"] = "user"
            content = f"<tool_response>\n{_joined(content)}\n</tool_response>"
        if told.get("tool_calls"):
            told["tool_calls"] = [_with_object(one) for one in told["tool_calls"]]
            if "tool_calls" not in self._template:
                content = "\n".join([_joined(content), *map(_as_hermes, told.pop("tool_calls"))]).strip()
        if self._takes_parts and not isinstance(content, list):
            told["content"] = [{"type": "text", "text": content or ""}]
        else:
            told["content"] = content if self._takes_parts else _joined(content)
        return told

    def opens_reasoning(self, rendered: str) -> bool:
        return self._thinks and rendered.rstrip().endswith(THINK)

    # What may come out

    def structure_for(self, chat: Mapping[str, Any]) -> dict[str, Any] | None:
        """A grammar where a call is required."""
        choice = chat.get("tool_choice") or {}
        if choice.get("mode") != "required":
            return None
        tools = list(_callable(chat).values())
        if not tools:
            param = "inputs.tool_choice"
            raise InvalidInput(f"{param}: there is no such tool to call.", param=param)
        most = 1 if chat.get("parallel_tool_calls") is False or choice.get("names") else MAX_CALLS
        return {"kind": "grammar", "value": self._calls_grammar(tools, most)}

    def schemas_of_calls(self, chat: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
        """What the arguments of a call must be, by the place of the tool among the tools."""
        holds_all = (chat.get("tool_choice") or {}).get("mode") == "required"
        return [(index, _schema_of(one)) for index, one in _callable(chat).items() if holds_all or one.get("strict")]

    def structure_of_strict(self, chat: Mapping[str, Any]) -> dict[str, Any] | None:
        """A grammar that leaves it to the model whether it calls, and holds the arguments of strict tools if it does;
        only where calls stand between marks."""
        style, tools = self._style, list(_callable(chat).values()) if self._tools(chat) else []
        is_marked = bool(style.begin and style.end) and self._response_for(chat) is None
        if not is_marked or not any(tool.get("strict") for tool in tools):
            return None
        rules, parts = ["start: part* TEXT", r"TEXT: /(.|\n)*/"], []
        if self._thinks:
            # What is a token of its own is no text to llguidance.
            marks = [mark for mark in map(self._mark, (THINK, END_THINK)) if mark.startswith("<[")]
            parts += [f"TEXT {mark}" for mark in marks]
        begin, end = self._mark(style.begin), self._mark(style.end)
        if begin.startswith("<["):
            before = f"TEXT {begin}"
        else:
            before = "marked"
            rules.append(f"marked[lazy]: TEXT {begin}")
        parts.append(f'{before} "\\n" call "\\n" {end}')
        rules.append(f"part: {' | '.join(parts)}")
        rules += self._call_rules(
            [(tool, _schema_of(tool) if tool.get("strict") else {"type": "object"}, _FREE) for tool in tools]
        )
        return {"kind": "grammar", "value": "\n".join(rules)}

    def _calls_grammar(self, tools: Sequence[Mapping[str, Any]], most: int) -> str:
        """Lark, as llguidance reads it; arguments as compact JSON of the tool's own schema."""
        style = self._style
        rules = self._call_rules([(tool, _schema_of(tool), _COMPACT) for tool in tools])
        if style.is_list:
            more = f' (", " call){{0,{most - 1}}}' if most > 1 else ""
            start = f'{self._mark(style.begin)} "[" call{more} "]"'
        elif style.begin:
            rules.append(f'marked: {self._mark(style.begin)} "\\n" call "\\n" {self._mark(style.end)}')
            start = "marked" + (f' ("\\n" marked){{0,{most - 1}}}' if most > 1 else "")
        else:
            start = "call"
        return "\n".join([f"start: {start}", *rules])

    def _call_rules(self, tools: Sequence[tuple[Mapping[str, Any], dict[str, Any], dict[str, Any]]]) -> list[str]:
        """`call`, of one of the tools. tools: each with the schema of its arguments and how these are spaced."""
        rules = []
        for index, (tool, schema, spacing) in enumerate(tools):
            begin = json.dumps(f'{{"name": "{tool["name"]}", "{self._style.arguments}": ')
            rules.append(f'tool_{index}: {begin} arguments_{index} "}}"')
            rules.append(f"arguments_{index}: %json {json.dumps({**schema, 'x-guidance': spacing})}")
        names = " | ".join(f"tool_{index}" for index in range(len(tools)))
        return [*rules, f"call: {names}"]

    def _mark(self, mark: str) -> str:
        """As a token of its own where the tokenizer has it so."""
        if mark in getattr(self._tokenizer, "added_tokens_encoder", {}):
            return f"<[{self._tokenizer.added_tokens_encoder[mark]}]>"
        return json.dumps(mark)

    def markers(self, chat: Mapping[str, Any]) -> frozenset[int]:
        """Special tokens whose text the parser wants to see."""
        special = _special_tokens(self._tokenizer)
        response = self._response_for(chat)
        if response is not None:
            return frozenset(token for mark, token in special.items() if response.mentions(mark))
        marks = ((THINK, END_THINK) if self._thinks else ()) + (
            (self._style.begin, self._style.end, "<|python_tag|>") if self._tools(chat) else ()
        )
        return frozenset(special[mark] for mark in marks if mark in special)

    def _response_for(self, chat: Mapping[str, Any]) -> ResponseTemplate | None:
        """The model's own, unless a grammar has the call written in the style."""
        return None if (chat.get("tool_choice") or {}).get("mode") == "required" else self._response

    def parser(
        self, chat: Mapping[str, Any], prompt: Sequence[int], *, opens_reasoning: bool
    ) -> OutputParser | TemplateParser | None:
        """None where the answer is nothing but text. prompt: the chat's tokens."""
        response = self._response_for(chat)
        if response is not None:
            written = self._tokenizer.decode(prompt, skip_special_tokens=False)
            tells_reasoning = chat.get("include_reasoning") is not False
            return response.parser(written, self._tools(chat), tells_reasoning=tells_reasoning)
        tools = [one["function"]["name"] for one in self._tools(chat)]
        if not tools and not self._thinks:
            return None
        return OutputParser(
            style=self._style if tools else None,
            tools=tools,
            thinks=self._thinks,
            is_thinking=opens_reasoning,
            tells_reasoning=chat.get("include_reasoning") is not False,
        )


def _callable(chat: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """The functions that may be called, by their place among the tools."""
    names = (chat.get("tool_choice") or {}).get("names")
    functions = enumerate(one["function"] for one in chat.get("tools") or ())
    return {index: one for index, one in functions if names is None or one["name"] in names}


def _schema_of(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", **(function.get("parameters") or _NO_PARAMETERS)}


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    """All that decoding may skip: by far not all of them have a role, such as the end, that makes them "special"."""
    named = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return named | {one.content: token for token, one in added.items() if one.special}


def _style_of(template: str) -> CallStyle:
    if "[TOOL_CALLS]" in template:
        return MISTRAL
    if "<|python_tag|>" in template or ("ipython" in template and '"parameters"' in template):
        return LLAMA
    return HERMES


def _joined(content: Any) -> str:
    """Parts of text as one."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return content or ""


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    """Templates want the arguments as an object."""
    function = dict(call["function"])
    try:
        function["arguments"] = json.loads(function.get("arguments") or "{}")
    except (ValueError, RecursionError):
        pass  # as the model wrote it
    return {**call, "type": "function", "function": function}


def _as_hermes(call: Mapping[str, Any]) -> str:
    function = call["function"]
    shown = json.dumps({"name": function["name"], "arguments": function.get("arguments")})
    return f"{HERMES.begin}\n{shown}\n{HERMES.end}"


def _with_system(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    if messages and messages[0]["role"] == "system":
        content = messages[0]["content"]
        longer: Any = [*content, {"type": "text", "text": f"\n\n{text}"}] if isinstance(content, list) else ""
        return [{**messages[0], "content": longer or f"{content}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
