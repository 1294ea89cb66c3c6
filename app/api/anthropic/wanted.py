"""Anthropic's bodies in the words of the task `completion`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from app.api.anthropic.body import (
    ImageBlock,
    MessagesBody,
    PromptBody,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
    image_url,
    read_blocks,
    read_thinking,
    read_tools,
)
from app.api.functions import as_tools, choice_of, tool_names
from app.api.generating import Wanted
from app.errors import InvalidInput

_MODES = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}


def wanted_of(body: PromptBody) -> Wanted:
    """Raises InvalidInput."""
    chat = _ChatMessages()
    if body.system:
        chat.add_system(body.system, "system")
    for index, message in enumerate(body.messages):
        chat.add(message.role, message.content, f"messages[{index}].content")
    tools = read_tools(body.tools)
    functions = [
        {"name": one.name, "description": one.description, "parameters": one.input_schema, "strict": one.strict}
        for one in tools
    ]
    thinking = read_thinking(body.thinking)
    thinks = thinking.type != "disabled"
    words: dict[str, Any] = {"enable_thinking": thinks}
    if body.output_config is not None and body.output_config.effort is not None:
        words["reasoning_effort"] = body.output_config.effort
    continues = chat.ends_with_text
    one_input = {
        "messages": chat.messages,
        "tools": as_tools(functions, schema="input_schema"),
        "tool_choice": _tool_choice(body, tools),
        "parallel_tool_calls": False if _is_serial(body) else None,
        "chat_template_kwargs": words,
        "include_reasoning": None if thinks and thinking.display != "omitted" else False,
        "continue_final_message": True if continues else None,
        "add_generation_prompt": False if continues else None,
    }
    names = {
        **{f"messages[{index}]": place for index, place in enumerate(chat.places)},
        **tool_names(len(tools), function="", schema="input_schema"),
        "structure": "output_config.format",
        "stop": "stop_sequences",
        "chat_template_kwargs": "thinking",
    }
    return Wanted(inputs=[one_input], parameters=_parameters(body), names=names, keep_alive=body.keep_alive)


def _parameters(body: PromptBody) -> dict[str, Any]:
    if not isinstance(body, MessagesBody):
        return {"max_tokens": 0}
    format = None if body.output_config is None else body.output_config.format
    return {
        "max_tokens": body.max_tokens,
        "clip_max_tokens": True,
        "temperature": body.temperature,
        "top_k": body.top_k,
        "top_p": body.top_p,
        "stop": body.stop_sequences,
        "structure": None if format is None else {"kind": "json_schema", "value": format.schema_},
    }


def _tool_choice(body: PromptBody, tools: Sequence[Tool]) -> dict[str, Any] | None:
    choice = body.tool_choice
    if choice is None:
        return None
    if (choice.type == "tool") != (choice.name is not None):
        raise InvalidInput("tool_choice.name: it goes with the type tool.", param="tool_choice.name")
    names = [] if choice.name is None else [choice.name]
    return choice_of(_MODES[choice.type], names, [tool.name for tool in tools])


def _is_serial(body: PromptBody) -> bool:
    return body.tool_choice is not None and body.tool_choice.disable_parallel_tool_use is True


class _ChatMessages:
    """Anthropic's messages as those of a chat: results of tools become messages of their own, and messages of one role
    that follow each other become one, as Anthropic has it.

    places: of each message, its path in the body.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.places: list[str] = []

    @property
    def ends_with_text(self) -> bool:
        """An assistant's last message is the beginning of the answer."""
        last = self.messages[-1]
        return last["role"] == "assistant" and not last.get("tool_calls") and bool(last.get("content"))

    def add_system(self, given: str | Sequence[Any], where: str) -> None:
        blocks = read_blocks(given, "system", where=where)
        self._add({"role": "system", "content": "\n".join(one.text for one in blocks)}, where)

    def add(self, role: str, given: str | Sequence[Any], where: str) -> None:
        """Raises InvalidInput naming the block."""
        blocks = read_blocks(given, role, where=where)
        if role == "assistant":
            self._add_assistant(blocks, where)
        elif role == "system":
            self.add_system(given, where)
        else:
            self._add_user(blocks, where)

    def _add_user(self, blocks: Sequence[Any], where: str) -> None:
        parts: list[dict[str, Any]] = []
        for index, block in enumerate(blocks):
            place = f"{where}[{index}]"
            if isinstance(block, ToolResultBlock):
                self._add_user_parts(parts, where)
                parts = []
                self._add(_tool_message(block, place), place)
            else:
                parts.append(_part(block, place))
        self._add_user_parts(parts, where)

    def _add_user_parts(self, parts: list[dict[str, Any]], where: str) -> None:
        if not parts:
            return
        if self.messages and self.messages[-1]["role"] == "user":
            before = self.messages[-1]["content"]
            before = [{"type": "text", "text": before}] if isinstance(before, str) else before
            self.messages[-1]["content"] = _content([*before, *parts])
        else:
            self._add({"role": "user", "content": _content(parts)}, where)

    def _add_assistant(self, blocks: Sequence[Any], where: str) -> None:
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self._add({"role": "assistant"}, where)
        turn = self.messages[-1]
        for block in blocks:
            if isinstance(block, ThinkingBlock):
                turn["reasoning_content"] = _lines(turn.get("reasoning_content"), block.thinking)
            elif isinstance(block, TextBlock):
                turn["content"] = _lines(turn.get("content"), block.text)
            else:
                assert isinstance(block, ToolUseBlock)
                function = {"name": block.name, "arguments": orjson.dumps(block.input).decode()}
                turn.setdefault("tool_calls", []).append({"id": block.id, "type": "function", "function": function})

    def _add(self, message: dict[str, Any], place: str) -> None:
        self.messages.append(message)
        self.places.append(place)


def _tool_message(block: ToolResultBlock, place: str) -> dict[str, Any]:
    blocks = read_blocks(block.content or "", "tool_result", where=f"{place}.content")
    parts = [_part(one, f"{place}.content[{index}]") for index, one in enumerate(blocks)]
    if block.is_error:
        parts = [{"type": "text", "text": "Error: "}, *parts]
        content = "".join(one["text"] for one in parts) if _is_text(parts) else parts
    else:
        content = _content(parts)
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _part(block: Any, place: str) -> dict[str, Any]:
    if isinstance(block, ImageBlock):
        return {"type": "image_url", "image_url": {"url": image_url(block, where=place)}}
    return {"type": "text", "text": block.text}


def _is_text(parts: Sequence[dict[str, Any]]) -> bool:
    return all(one["type"] == "text" for one in parts)


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Texts alone as lines of one text."""
    return "\n".join(one["text"] for one in parts) if _is_text(parts) else parts


def _lines(before: str | None, text: str) -> str:
    return text if before is None else f"{before}\n{text}"
