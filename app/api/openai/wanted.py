"""OpenAI's bodies in the words of the task `completion`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from app.api.generating import Wanted
from app.api.openai.bodies import Body, ChatBody, CompletionBody, SamplingBody, StructuredOutputs
from app.api.openai.fields import without_unused
from app.errors import InputTooLarge, InvalidInput
from app.tasks.completion import ToolDefinition
from app.tasks.requests import as_invalid_input

BodyT = TypeVar("BodyT", bound=Body)
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's
_SAME_NAMES = (
    *("n", "temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "top_k", "min_p"),
    *("typical_p", "repetition_penalty", "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "min_tokens"),
    *("skip_special_tokens", "truncate_prompt_tokens", "prompt_logprobs"),
    *("allowed_token_ids", "bad_words", "return_token_ids"),
)
_UNUSED_IN_MESSAGES = ("refusal", "annotations", "audio", "function_call")
"""What SDKs send back with an assistant's message; only empty."""


def read_chat_body(body: Mapping[str, Any]) -> ChatBody:
    """Raises InvalidInput naming the field."""
    return _read(ChatBody, body)


def read_completion_body(body: Mapping[str, Any]) -> CompletionBody:
    """Raises InvalidInput naming the field."""
    return _read(CompletionBody, body)


def _read(model: type[BodyT], body: Mapping[str, Any]) -> BodyT:
    try:
        return model.model_validate(without_unused(body))
    except ValidationError as error:
        found = as_invalid_input(error, "", model)
        if isinstance(found, InputTooLarge):  # "too many" is no matter of the context here
            raise InvalidInput(found.message, param=found.param) from None
        raise found from None


def wanted_of_chat(body: ChatBody) -> Wanted:
    """Raises InvalidInput."""
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidInput("top_logprobs: it needs logprobs: true.", param="top_logprobs")
    if body.max_tokens == 0:
        raise InvalidInput("max_tokens: it must be 1 or more.", param="max_tokens")
    tools = _checked_tools(body.tools)
    kwargs = dict(body.chat_template_kwargs or {})
    if body.reasoning_effort is not None:
        kwargs.setdefault("reasoning_effort", body.reasoning_effort)
        kwargs.setdefault("enable_thinking", body.reasoning_effort != "none")
    names = {"structure": _structure_name(body), "stop": "stop"}
    if body.max_completion_tokens is not None:
        names["max_tokens"] = "max_completion_tokens"
    parameters = _parameters(body) | {
        "max_tokens": body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens,
        "logprobs": body.logprobs,
        "top_logprobs": body.top_logprobs,
    }
    one_input = {
        "messages": [_message(one, index) for index, one in enumerate(body.messages)],
        "tools": None if not tools else [one.model_dump(exclude_none=True) for one in tools],
        "tool_choice": read_tool_choice(body.tool_choice, tools),
        "parallel_tool_calls": body.parallel_tool_calls,
        "documents": body.documents,
        "add_generation_prompt": body.add_generation_prompt,
        "continue_final_message": body.continue_final_message,
        "add_special_tokens": body.add_special_tokens,
        "chat_template_kwargs": kwargs or None,
        "include_reasoning": body.include_reasoning,
    }
    return Wanted(inputs=[one_input], parameters=parameters, names=names, keep_alive=body.keep_alive)


def echoed_in(body: ChatBody) -> str:
    """With `echo`: the text of the last message, if it is the one that the answer goes on with (as vLLM has it)."""
    last = body.messages[-1]
    if not body.echo or last.get("role") != "assistant":
        return ""
    content = last.get("content") or ""
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content)


def wanted_of_completion(body: CompletionBody) -> Wanted:
    """One input per prompt. Raises InvalidInput."""
    prompts: Sequence[Any] = [body.prompt] if _is_one_prompt(body.prompt) else body.prompt
    if not prompts:
        raise InvalidInput("prompt must not be empty.", param="prompt")
    n = body.n or 1
    if body.best_of is not None and body.best_of < n:
        raise InvalidInput("best_of: it cannot be less than n.", param="best_of")
    if body.stream and (body.best_of or 1) > n:
        raise InvalidInput(
            "best_of: which is best is known at the end only, so it cannot be streamed.", param="best_of"
        )
    max_tokens = DEFAULT_COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    if max_tokens == 0 and not (body.echo or body.prompt_logprobs is not None):
        raise InvalidInput("max_tokens: 0 is for the prompt's own log-probabilities (echo).", param="max_tokens")
    parameters = _parameters(body) | {
        "max_tokens": max_tokens,
        "echo": body.echo,
        "best_of": body.best_of,
        "logprobs": None if body.logprobs is None else True,
        "top_logprobs": body.logprobs,
    }
    inputs = [{"prompt": one, "suffix": body.suffix, "add_special_tokens": body.add_special_tokens} for one in prompts]
    names = {"structure": _structure_name(body), "top_logprobs": "logprobs"}
    return Wanted(inputs=inputs, parameters=parameters, names=names, keep_alive=body.keep_alive)


def _is_one_prompt(prompt: Any) -> bool:
    return isinstance(prompt, str) or bool(prompt) and isinstance(prompt[0], int)


def _parameters(body: SamplingBody) -> dict[str, Any]:
    if body.stream and body.prompt_logprobs is not None:
        raise InvalidInput("prompt_logprobs: a stream has no place for them.", param="prompt_logprobs")
    parameters = {name: getattr(body, name) for name in _SAME_NAMES}
    parameters["stop"] = [body.stop] if isinstance(body.stop, str) else body.stop
    parameters["structure"] = _structure(body)
    return parameters


def _structure_name(body: SamplingBody) -> str:
    return "structured_outputs" if body.structured_outputs is not None else "response_format"


def _structure(body: SamplingBody) -> dict[str, Any] | None:
    structure = None if body.response_format is None else structure_of_format(body.response_format, "response_format")
    if body.structured_outputs is None:
        return structure
    if structure is not None:
        raise InvalidInput(
            "structured_outputs: response_format says what the answer is to be.", param="response_format"
        )
    return _structure_of_outputs(body.structured_outputs)


def structure_of_format(value: Mapping[str, Any], param: str) -> dict[str, Any] | None:
    """OpenAI's `response_format`; None for text. Raises InvalidInput."""
    kind = value.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"kind": "json_object"}
    if kind != "json_schema":
        raise InvalidInput(f"{param}.type must be text, json_object or json_schema.", param=f"{param}.type")
    described = value.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if not isinstance(schema, dict):
        name = f"{param}.json_schema.schema"
        raise InvalidInput(f"{name} must be a JSON schema, an object.", param=name)
    return {"kind": "json_schema", "value": schema}


def _structure_of_outputs(given: StructuredOutputs) -> dict[str, Any]:
    if given.json_object:
        return {"kind": "json_object"}
    if given.json_ is not None:
        return {"kind": "json_schema", "value": _schema(given.json_)}
    kind = next(name for name in ("regex", "choice", "grammar") if getattr(given, name) is not None)
    return {"kind": kind, "value": getattr(given, kind)}


def _schema(given: dict[str, Any] | str) -> Any:
    if isinstance(given, dict):
        return given
    try:
        return json.loads(given)
    except ValueError:
        param = "structured_outputs.json"
        raise InvalidInput(f"{param} is not a JSON schema.", param=param) from None


def _checked_tools(tools: list[ToolDefinition] | None) -> list[ToolDefinition]:
    tools = tools or []
    names = [tool.function.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f'tools: "{twice}" stands there twice.', param="tools")
    for index, tool in enumerate(tools):
        parameters = tool.function.parameters
        if parameters and parameters.get("type", "object") != "object":
            param = f"tools[{index}].function.parameters"
            raise InvalidInput(f"{param} must be the schema of an object.", param=param)
    return tools


def read_tool_choice(given: str | Mapping[str, Any] | None, tools: Sequence[ToolDefinition]) -> dict[str, Any] | None:
    """OpenAI's `tool_choice` as a `ToolChoice`. Raises InvalidInput."""
    if given is None:
        return None
    if isinstance(given, str):
        if given not in ("none", "auto", "required"):
            raise InvalidInput("tool_choice must be none, auto, required or name a tool.", param="tool_choice")
        if given == "required" and not tools:
            raise InvalidInput("tool_choice: there are no tools.", param="tool_choice")
        return {"mode": given}
    if given.get("type") == "allowed_tools":
        allowed = given.get("allowed_tools")
        allowed = allowed if isinstance(allowed, Mapping) else given
        mode = allowed.get("mode", "auto")
        names = [_named(one) for one in allowed.get("tools") or ()]
    else:
        mode, names = "required", [_named(given)]
    known = {tool.function.name for tool in tools}
    for name in names:
        if name not in known:
            raise InvalidInput(f'tool_choice: there is no tool "{name}" among the tools.', param="tool_choice")
    if mode not in ("auto", "required") or not names:
        raise InvalidInput("tool_choice must be none, auto, required or name a tool.", param="tool_choice")
    return {"mode": mode, "names": names}


def _named(choice: Any) -> str:
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or choice.get("type") != "function":
        raise InvalidInput(
            'tool_choice must be {"type": "function", "function": {"name": ...}} to name a tool.', param="tool_choice"
        )
    return name


def _message(message: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Without what SDKs send back of an answer."""
    told = {name: value for name, value in message.items() if value is not None}
    for name in _UNUSED_IN_MESSAGES:
        if told.pop(name, None):
            param = f"messages[{index}].{name}"
            raise InvalidInput(f"{param}: no model here takes it.", param=param)
    if "reasoning" in told:
        told.setdefault("reasoning_content", told.pop("reasoning"))
    return told
