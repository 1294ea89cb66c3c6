"""What clients send to /v1/responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from app.api.fields import Body, Unused, read_as
from app.api.responses.items import MAX_ITEMS
from app.errors import InvalidInput
from app.tasks.completion import MAX_TOKENS, MAX_TOP_LOGPROBS
from app.tasks.text import Text

_CACHE = "prompts are cached by their tokens"
_NOTHING_KEPT = "nothing is kept of it"
UNUSED = Unused(
    harmless={
        "max_tool_calls": "it limits hosted tools, of which there are none",
        "prompt_cache_key": _CACHE,
        "prompt_cache_options": _CACHE,
        "prompt_cache_retention": _CACHE,
        "safety_identifier": _NOTHING_KEPT,
        "service_tier": "there is one",
        "user": _NOTHING_KEPT,
    },
    refused={
        "access_programs": ((), "they are OpenAI's own"),
        "background": ((False,), "a response is made while its client waits; stream it"),
        "background_options": ((), "a response is made while its client waits; stream it"),
        "context_management": (([],), "nothing is compacted here; send the items that matter"),
        "conversation": ((), "there are no conversations here; previous_response_id goes on from a response"),
        "image": ((), "images are processed as the model's own files say"),
        "moderation": ((), "no answer is moderated; /v1/moderations is a route of its own"),
        "prompt": ((), "there are no stored prompts here; send instructions and input"),
        "truncation": (("disabled",), "no item is dropped here; send those that fit the model's context"),
    },
)
UNUSED_IN_REASONING = Unused(
    refused={
        "context": (("auto",), "the model's template decides which thoughts it sees again"),
        "mode": (("standard",), "there is one mode"),
    }
)
UNUSED_IN_TEXT = Unused(harmless={"verbosity": "a hint that no open model knows"})
UNUSED_IN_FORMAT = Unused(
    harmless={
        "description": "the schema alone is followed",
        "name": "the schema alone is followed",
        "strict": "an answer always follows the schema",
    }
)
UNUSED_IN_STREAM_OPTIONS = Unused(harmless={"include_obfuscation": "events are never padded"})
UNUSED_IN_TOOLS = Unused(
    harmless={"output_schema": "what a function answers is read as it is"},
    refused={
        "allowed_callers": ((["direct"],), "functions are called by the model alone"),
        "async": ((False,), "a response ends with its calls; their outputs begin the next"),
        "defer_loading": ((False,), "tools are told all at once"),
    },
)
LOGPROBS = "message.output_text.logprobs"
INCLUDABLE: Mapping[str, str] = {
    LOGPROBS: "",
    "reasoning.encrypted_content": "thoughts are told openly, so that there is nothing to encrypt",
    "message.input_image.image_url": "input items tell it anyway",
    "file_search_call.results": "there are no such items",
    "web_search_call.results": "there are no such items",
    "web_search_call.action.sources": "there are no such items",
    "computer_call_output.output.image_url": "there are no such items",
    "code_interpreter_call.outputs": "there are no such items",
}
"""What `include` may name, and why it changes nothing; "" for what is honoured."""

Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]


class Reasoning(Body):
    """summary: how thoughts are told. Unset: as `reasoning_text`; set: as their own summary, whole."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "detailed"] | None = None
    generate_summary: Literal["auto", "detailed"] | None = Field(default=None, description="The older name.")


class TextFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    schema_: dict[str, Any] | None = Field(default=None, alias="schema", description="A JSON schema.")


class TextOptions(Body):
    format: dict[str, Any] | None = Field(default=None, description="text, json_object or json_schema.")


class StreamOptions(Body):
    """Nothing of it changes anything."""


class FunctionTool(Body):
    type: Literal["function"]
    name: Text
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class InputBody(Body):
    """What is read before an answer is made, or its tokens are counted."""

    model: str | None = Field(default=None, description="A declared model. Unset: the first that generates text.")
    input: str | Annotated[list[Any], Field(max_length=MAX_ITEMS)] | None = Field(
        default=None, description="A text, or items: message, function_call, function_call_output, reasoning."
    )
    instructions: str | None = Field(default=None, description="A system message before all else.")
    previous_response_id: str | None = Field(default=None, description="A stored response, which this one goes on from")
    tools: list[dict[str, Any]] | None = Field(default=None, description="Functions.")
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = Field(default=None, description="effort, summary.")
    text: dict[str, Any] | None = Field(default=None, description="format.")
    keep_alive: float | str | None = Field(default=None, description="How long the model stays loaded afterwards.")


class ResponseBody(InputBody):
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    store: bool | None = Field(default=None, description="Keep it for a while. Unset: true.")
    metadata: Metadata | None = None
    include: list[str] | None = Field(default=None, description=f"{LOGPROBS} is honoured.")
    max_output_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)

    @property
    def has_logprobs(self) -> bool:
        return bool(self.top_logprobs) or LOGPROBS in (self.include or ())


def read_response_body(body: Mapping[str, Any]) -> ResponseBody:
    """Raises InvalidInput naming the field."""
    parsed = read_as(ResponseBody, UNUSED.without(body))
    if parsed.stream_options is not None:
        if not parsed.stream:
            raise InvalidInput("stream_options: these are for streams: send stream: true.", param="stream_options")
        given = UNUSED_IN_STREAM_OPTIONS.without(parsed.stream_options, where="stream_options")
        read_as(StreamOptions, given, where="stream_options")
    for index, name in enumerate(parsed.include or ()):
        if name not in INCLUDABLE:
            param = f"include[{index}]"
            raise InvalidInput(f"{param} must be one of {', '.join(INCLUDABLE)}.", param=param)
    return parsed


def read_input_body(body: Mapping[str, Any]) -> InputBody:
    """What is counted. Raises InvalidInput naming the field."""
    return read_as(InputBody, UNUSED.without(body))


def read_reasoning(given: Mapping[str, Any] | None) -> Reasoning:
    """Raises InvalidInput."""
    kept = UNUSED_IN_REASONING.without(given or {}, where="reasoning")
    for name in ("summary", "generate_summary"):
        if kept.get(name) == "concise":
            param = f"reasoning.{name}"
            raise InvalidInput(f"{param}: thoughts are told whole, so it is auto or detailed.", param=param)
    return read_as(Reasoning, kept, where="reasoning")


def read_format(text: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`text` as a `Structure`; None for any text. Raises InvalidInput."""
    options = read_as(TextOptions, UNUSED_IN_TEXT.without(text or {}, where="text"), where="text")
    if options.format is None:
        return None
    where = "text.format"
    format = read_as(TextFormat, UNUSED_IN_FORMAT.without(options.format, where=where), where=where)
    if format.type == "text":
        return None
    if format.type == "json_object":
        return {"kind": "json_object"}
    if format.schema_ is None:
        raise InvalidInput(f"{where}.schema must be a JSON schema, an object.", param=f"{where}.schema")
    return {"kind": "json_schema", "value": format.schema_}


def read_functions(tools: Sequence[Mapping[str, Any]] | None) -> list[FunctionTool]:
    """Raises InvalidInput for tools that are no functions."""
    read = []
    for index, tool in enumerate(tools or ()):
        where = f"tools[{index}]"
        if (kind := tool.get("type")) != "function":
            shown = kind[:64] if isinstance(kind, str) else "it"
            raise InvalidInput(
                f"{where}.type: {shown} is not run by this server; the client's own functions are tools here.",
                param=f"{where}.type",
            )
        read.append(read_as(FunctionTool, UNUSED_IN_TOOLS.without(tool, where=where), where=where))
    return read
