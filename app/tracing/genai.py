"""The GenAI semantic conventions (github.com/open-telemetry/semantic-conventions-genai, in development, as of 2026):
which operation a task is, and what of its parameters and answers stands in a span. Never what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from app.fleet.requests import JobResult
from app.tasks.completion import TASK as COMPLETION
from app.tracing.spans import Attributes

PROVIDER = "pipeserve"
_OPERATIONS = {
    "text-generation": "text_completion",
    "text2text-generation": "text_completion",
    "summarization": "text_completion",
    "translation": "text_completion",
    "image-text-to-text": "generate_content",
    "any-to-any": "generate_content",
    "feature-extraction": "embeddings",
    "image-feature-extraction": "embeddings",
    "sparse-embedding": "embeddings",
}
_CHOICES = "gen_ai.request.choice.count"
_PARAMETERS = {
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "max_new_tokens": ("gen_ai.request.max_tokens", int),
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
    "seed": ("gen_ai.request.seed", int),
    "n": (_CHOICES, int),
    "dimensions": ("gen_ai.embeddings.dimension.count", int),
}


class _Choice(msgspec.Struct):
    finish_reason: str


class _Completion(msgspec.Struct):
    """What is needed of a `Completion`; the rest is passed over unread."""

    choices: list[_Choice]
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0


_COMPLETION = msgspec.json.Decoder(_Completion)


def operation_of(task: str, inputs: Sequence[object]) -> str | None:
    """None: the conventions have no name for it."""
    if task != COMPLETION.name:
        return _OPERATIONS.get(task)
    is_chat = isinstance(inputs[0], Mapping) and inputs[0].get("messages") is not None
    return "chat" if is_chat else "text_completion"


def of_request(operation: str, model: str, parameters: Mapping[str, object]) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
    }
    for name, (attribute, kind) in _PARAMETERS.items():
        value = parameters.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            attributes[attribute] = kind(value)
    if attributes.get(_CHOICES) == 1:
        del attributes[_CHOICES]  # it stands where it is another number
    return attributes


def of_answer(task: str, operation: str, model: str, result: JobResult) -> Attributes:
    attributes: Attributes = {"gen_ai.response.model": model, "gen_ai.usage.input_tokens": result.num_tokens}
    if operation == "embeddings":
        return attributes
    attributes["gen_ai.usage.output_tokens"] = result.num_generated
    if task == COMPLETION.name:
        completions = [_COMPLETION.decode(fragment) for fragment in result.outputs]
        attributes["gen_ai.usage.input_tokens"] = sum(one.num_prompt_tokens for one in completions)
        attributes["gen_ai.usage.cache_read.input_tokens"] = sum(one.num_cached_tokens for one in completions)
        attributes["gen_ai.response.finish_reasons"] = [
            choice.finish_reason for one in completions for choice in one.choices
        ]
    return attributes
