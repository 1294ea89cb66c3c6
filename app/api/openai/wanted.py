"""OpenAI's bodies in the words of the task `completion`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.api.fields import read_as
from app.api.functions import as_tools, choice_of
from app.api.generating import Wanted
from app.api.json_text import read_json
from app.api.openai.bodies import ChatBody, CompletionBody, SamplingBody, StructuredOutputs
from app.api.openai.fields import UNUSED
from app.errors import InvalidInput
from app.tasks.completion import ToolDefinition

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
    return read_as(ChatBody, UNUSED.without(body))


def read_completion_body(body: Mapping[str, Any]) -> CompletionBody:
    """Raises InvalidInput naming the field."""
    return read_as(CompletionBody, UNUSED.without(body))


def wanted_of_chat(body: ChatBody) -> Wanted:
    """Raises InvalidInput."""
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidInput("top_logprobs: it needs logprobs: true.", param="top_logprobs")
    if body.max_tokens == 0:
        raise InvalidInput("max_tokens: it must be 1 or more.", param="max_tokens")
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
        **chat_of(body.messages, body.tools),
        "tool_choice": read_tool_choice(body.tool_choice, [one.function.name for one in body.tools or ()]),
        "parallel_tool_calls": body.parallel_tool_calls,
        "documents": body.documents,
        "add_generation_prompt": body.add_generation_prompt,
        "continue_final_message": body.continue_final_message,
        "add_special_tokens": body.add_special_tokens,
        "chat_template_kwargs": kwargs or None,
        "include_reasoning": body.include_reasoning,
    }
    return Wanted(inputs=[one_input], parameters=parameters, names=names, keep_alive=body.keep_alive)


def chat_of(messages: Sequence[Mapping[str, Any]], tools: Sequence[ToolDefinition] | None) -> dict[str, Any]:
    """Both in the words of a `CompletionInput`. Raises InvalidInput."""
    return {
        "messages": [_message(one, index) for index, one in enumerate(messages)],
        "tools": as_tools([one.function.model_dump() for one in tools or ()], schema="function.parameters"),
    }


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
        return read_json(given)
    except ValueError:
        param = "structured_outputs.json"
        raise InvalidInput(f"{param} is not a JSON schema.", param=param) from None


def read_tool_choice(given: str | Mapping[str, Any] | None, known: Sequence[str]) -> dict[str, Any] | None:
    """OpenAI's `tool_choice` as a `ToolChoice`. known: the names of the tools. Raises InvalidInput."""
    if given is None:
        return None
    if isinstance(given, str):
        if given not in ("none", "auto", "required"):
            raise InvalidInput("tool_choice must be none, auto, required or name a tool.", param="tool_choice")
        return choice_of(given, [], known)
    if given.get("type") != "allowed_tools":
        return choice_of("required", [_named(given)], known)
    allowed = given.get("allowed_tools")
    allowed = allowed if isinstance(allowed, Mapping) else given
    mode = allowed.get("mode", "auto")
    names = [_named(one) for one in allowed.get("tools") or ()]
    if mode not in ("auto", "required") or not names:
        raise InvalidInput("tool_choice must be none, auto, required or name a tool.", param="tool_choice")
    return choice_of(mode, names, known)


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
