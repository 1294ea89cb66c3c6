"""Ollama's bodies in the words of the task `completion`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from app.api.functions import as_tools, tool_names
from app.api.generating import Wanted
from app.api.ollama.body import ChatBody, GenerateBody, GeneratingBody, Message, read_keep_alive, read_options
from app.errors import InvalidInput

_NAMES = {
    "max_tokens": "options.num_predict",
    "repetition_penalty": "options.repeat_penalty",
    "structure": "format",
    "chat_template_kwargs": "think",
    **{name: f"options.{name}" for name in ("seed", "temperature", "top_k", "top_p", "min_p", "typical_p", "stop")},
}


def wanted_of_load(body: GeneratingBody) -> Wanted:
    """Nothing but the model, for as long as `keep_alive` says."""
    return Wanted(inputs=[{"prompt": "a"}], parameters={"max_tokens": 1}, keep_alive=read_keep_alive(body.keep_alive))


def wanted_of_chat(body: ChatBody) -> Wanted:
    """Raises InvalidInput."""
    functions = [one.function.model_dump() for one in body.tools or ()]
    one_input = {
        "messages": _messages(body.messages or ()),
        "tools": as_tools(functions, schema="function.parameters"),
        **_thinking(body),
    }
    names = {**_NAMES, **tool_names(len(functions), function="function", schema="function.parameters")}
    return _wanted(body, one_input, names)


def wanted_of_generate(body: GenerateBody) -> Wanted:
    """A chat of one turn; with `raw` or a suffix the prompt as it is. Raises InvalidInput."""
    if not body.raw and not body.suffix:
        parts = _content(body.prompt or "", body.images)
        system = [{"role": "system", "content": body.system}] if body.system else []
        one_input = {"messages": [*system, {"role": "user", "content": parts}], **_thinking(body)}
        if not system and not body.images:
            one_input["plain_prompt"] = body.prompt or ""
        places = (["system"] if system else []) + ["prompt"]
        names = {f"messages[{index}]": place for index, place in enumerate(places)} | {"messages": "prompt"}
        return _wanted(body, one_input, {**_NAMES, **names})
    for name in ("system", "images", "think"):
        if getattr(body, name):
            how = "raw" if body.raw else "a suffix"
            raise InvalidInput(f"{name}: with {how} the prompt is all that the model reads.", param=name)
    return _wanted(body, {"prompt": body.prompt or "", "suffix": body.suffix or None}, _NAMES)


def _wanted(body: GeneratingBody, one_input: Mapping[str, Any], names: Mapping[str, str]) -> Wanted:
    if body.top_logprobs and not body.logprobs:
        raise InvalidInput("top_logprobs: it needs logprobs: true.", param="top_logprobs")
    options = read_options(body.options)
    parameters = {
        "max_tokens": None if options.num_predict is None or options.num_predict <= 0 else options.num_predict,
        "clip_max_tokens": True,
        "seed": None if options.seed == -1 else options.seed,
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "typical_p": options.typical_p,
        "repetition_penalty": options.repeat_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "stop": [options.stop] if isinstance(options.stop, str) else options.stop,
        "structure": _structure(body.format),
        "logprobs": body.logprobs or None,
        "top_logprobs": body.top_logprobs,
    }
    keep_alive = read_keep_alive(body.keep_alive)
    return Wanted(inputs=[one_input], parameters=parameters, names=names, keep_alive=keep_alive)


def _structure(format: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if not format and not isinstance(format, dict):
        return None
    return {"kind": "json_object"} if format == "json" else {"kind": "json_schema", "value": format}


def _thinking(body: GeneratingBody) -> dict[str, Any]:
    """Unset: as the model's template does without a word about it."""
    if body.think is None:
        return {}
    if body.think is False:
        return {"chat_template_kwargs": {"enable_thinking": False}, "include_reasoning": False}
    words: dict[str, Any] = {"enable_thinking": True}
    return {"chat_template_kwargs": words if body.think is True else {**words, "reasoning_effort": body.think}}


def _messages(given: Sequence[Message]) -> list[dict[str, Any]]:
    """Ollama's calls have no ids: a tool's answer is that of the first call of its name which has none yet."""
    told: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []  # id and name of calls without an answer
    for message in given:
        one: dict[str, Any] = {"role": message.role, "content": _content(message.content or "", message.images)}
        if message.thinking:
            one["reasoning_content"] = message.thinking
        if message.tool_calls:
            one["tool_calls"] = []
        for call in message.tool_calls or ():
            call_id = call.id or f"call_{len(told)}_{len(one['tool_calls'])}"
            waiting.append((call_id, call.function.name))
            function = {"name": call.function.name, "arguments": orjson.dumps(call.function.arguments).decode()}
            one["tool_calls"].append({"id": call_id, "type": "function", "function": function})
        if message.role == "tool":
            answered = _answered(waiting, message)
            if answered is not None:
                waiting.remove(answered)
                one["tool_call_id"] = answered[0]
            elif message.tool_call_id:
                one["tool_call_id"] = message.tool_call_id
            if message.tool_name:
                one["name"] = message.tool_name
        told.append(one)
    return told


def _answered(waiting: Sequence[tuple[str, str]], message: Message) -> tuple[str, str] | None:
    if message.tool_call_id:
        return next((one for one in waiting if one[0] == message.tool_call_id), None)
    named = (one for one in waiting if message.tool_name in (None, one[1]))
    return next(named, None)


def _content(text: str, images: Sequence[str] | None) -> str | list[dict[str, Any]]:
    if not images:
        return text
    return [*({"type": "image", "image": one} for one in images), {"type": "text", "text": text}]
