"""A response's body in the words of the task `completion`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.api.functions import as_tools, choice_of, tool_names
from app.api.generating import Wanted
from app.api.responses.body import InputBody, ResponseBody, read_format, read_functions, read_reasoning
from app.api.responses.items import ChatMessages, Item
from app.errors import InvalidInput

_CHOICES = ("none", "auto", "required")


def wanted_of(body: InputBody, before: Sequence[Item], inputs: Sequence[Item]) -> Wanted:
    """before: the items of the response that it goes on from. Raises InvalidInput."""
    chat = ChatMessages()
    if body.instructions:
        chat.add_text("system", body.instructions, "instructions")
    chat.add_items(before, lambda index: "previous_response_id")
    chat.add_items(inputs, lambda index: f"input[{index}]")
    if not chat.messages:
        raise InvalidInput("input: there is nothing to answer.", param="input")
    functions = read_functions(body.tools)
    told = [one.model_dump(exclude={"type"}) for one in functions]
    one_input = {
        "messages": chat.messages,
        "tools": as_tools(told, schema="parameters"),
        "tool_choice": read_tool_choice(body.tool_choice, [one.name for one in functions]),
        "parallel_tool_calls": body.parallel_tool_calls,
        "chat_template_kwargs": _template_words(body),
    }
    names = {
        **{f"messages[{index}]": place for index, place in enumerate(chat.places)},
        "messages": "input",
        **tool_names(len(functions), function="", schema="parameters"),
        "structure": "text.format",
        "max_tokens": "max_output_tokens",
        "chat_template_kwargs": "reasoning",
    }
    return Wanted(inputs=[one_input], parameters=_parameters(body), names=names, keep_alive=body.keep_alive)


def _parameters(body: InputBody) -> dict[str, Any]:
    structure = read_format(body.text)
    if not isinstance(body, ResponseBody):
        return {"max_tokens": 0}
    return {
        "max_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "logprobs": True if body.has_logprobs else None,
        "top_logprobs": body.top_logprobs if body.has_logprobs else None,
        "structure": structure,
    }


def _template_words(body: InputBody) -> dict[str, Any] | None:
    effort = read_reasoning(body.reasoning).effort
    return None if effort is None else {"reasoning_effort": effort, "enable_thinking": effort != "none"}


def read_tool_choice(given: str | Mapping[str, Any] | None, known: Sequence[str]) -> dict[str, Any] | None:
    """As a `ToolChoice`. Raises InvalidInput."""
    if given is None:
        return None
    if isinstance(given, str):
        if given not in _CHOICES:
            raise InvalidInput("tool_choice must be none, auto, required or name functions.", param="tool_choice")
        return choice_of(given, [], known)
    kind = given.get("type")
    if kind == "function":
        return choice_of("required", [_function_name(given)], known)
    if kind != "allowed_tools":
        shown = f'"{kind[:64]}" is not' if isinstance(kind, str) else "it must be"
        raise InvalidInput(f"tool_choice.type: {shown} function or allowed_tools.", param="tool_choice.type")
    mode, tools = given.get("mode"), given.get("tools")
    if mode not in ("auto", "required") or not isinstance(tools, list) or not tools:
        raise InvalidInput("tool_choice: allowed_tools has a mode, auto or required, and tools.", param="tool_choice")
    return choice_of(mode, [_function_name(one) for one in tools], known)


def _function_name(given: Any) -> str:
    name = given.get("name") if isinstance(given, Mapping) and given.get("type") == "function" else None
    if not isinstance(name, str):
        raise InvalidInput('tool_choice: {"type": "function", "name": ...} names a function.', param="tool_choice")
    return name
