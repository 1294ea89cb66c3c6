"""What clients send to /v1/messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from app.api.fields import Body, Unused, read_as, read_typed
from app.errors import InvalidInput
from app.tasks.completion import MAX_STOPS, MAX_TOKENS
from app.tasks.conversation import MAX_MESSAGES
from app.tasks.text import Text

_CACHE = "prompts are cached by their tokens"
_NOTHING_KEPT = "nothing is kept of it"
UNUSED = Unused(
    harmless={
        "cache_control": _CACHE,
        "inference_geo": "there is one place",
        "metadata": _NOTHING_KEPT,
        "service_tier": "there is one",
        "speed": "there is one",
        "user_profile_id": _NOTHING_KEPT,
        "workspace_id": _NOTHING_KEPT,
    },
    refused={
        "container": ((), "no code runs on this server; the client's own tools are called"),
        "context_management": (({},), "nothing is compacted here; send the messages that matter"),
        "diagnostics": ((), "none are made"),
        "mcp_servers": (([],), "this server calls no others; the client's own tools are called"),
    },
)
UNUSED_IN_BLOCKS = Unused(
    harmless={
        "cache_control": _CACHE,
        "citations": "the text alone is read",
        "parsed_output": "the text alone is read",
        "signature": "thoughts are read as they are",
    },
    refused={
        "caller": (({"type": "direct"},), "tools are called by the model alone"),
        "toolset_name": ((), "tools have names alone"),
        "transformations": ((), "images are processed as the model's own files say"),
    },
)
UNUSED_IN_SOURCES = Unused(harmless={"media_type": "the file itself says what it is"})
UNUSED_IN_TOOLS = Unused(
    harmless={
        "cache_control": _CACHE,
        "eager_input_streaming": "the input of a tool is always streamed as it comes",
    },
    refused={
        "allowed_callers": ((["direct"],), "tools are called by the model alone"),
        "defer_loading": ((False,), "tools are told all at once"),
        "input_examples": (([],), "the schema's own `examples` is the place for them"),
        "type": (("custom",), "this server has no tools of its own; the client's are called"),
    },
)
UNUSED_IN_THINKING = Unused(
    harmless={"budget_tokens": "a model thinks as long as it does; max_tokens ends thoughts and answer"}
)


class Format(Body):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema", description="A JSON schema.")


class OutputConfig(Body):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Thinking(Body):
    """display: omitted leaves the thoughts out of the answer."""

    type: Literal["enabled", "adaptive", "disabled"]
    display: Literal["summarized", "omitted"] | None = None


class Tool(Body):
    name: Text
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Message(Body):
    role: Literal["user", "assistant", "system"]
    content: str | list[Any]


class PromptBody(Body):
    """What is read before an answer is made, or its tokens are counted."""

    model: str | None = Field(default=None, description="A declared model. Unset: the first that generates text.")
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[Any] | None = None
    tools: list[dict[str, Any]] | None = Field(default=None, description="The client's own tools.")
    tool_choice: ToolChoice | None = None
    thinking: dict[str, Any] | None = Field(default=None, description="Unset: disabled.")
    output_config: OutputConfig | None = None
    keep_alive: float | str | None = Field(default=None, description="How long the model stays loaded afterwards.")


class MessagesBody(PromptBody):
    max_tokens: int = Field(ge=1, le=MAX_TOKENS)
    stream: bool | None = None
    stop_sequences: Annotated[list[Text], Field(max_length=MAX_STOPS)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)


def read_messages_body(body: Mapping[str, Any]) -> MessagesBody:
    """Raises InvalidInput naming the field."""
    return read_as(MessagesBody, UNUSED.without(body))


def read_prompt_body(body: Mapping[str, Any]) -> PromptBody:
    """What is counted. Raises InvalidInput naming the field."""
    return read_as(PromptBody, UNUSED.without(body))


def read_thinking(given: Mapping[str, Any] | None) -> Thinking:
    """Raises InvalidInput."""
    if given is None:
        return Thinking(type="disabled")
    return read_as(Thinking, UNUSED_IN_THINKING.without(given, where="thinking"), where="thinking")


def read_tools(given: Sequence[Mapping[str, Any]] | None) -> list[Tool]:
    """Raises InvalidInput for tools that are not the client's own."""
    tools = []
    for index, tool in enumerate(given or ()):
        where = f"tools[{index}]"
        tools.append(read_as(Tool, UNUSED_IN_TOOLS.without(tool, where=where), where=where))
    return tools


# Blocks


class TextBlock(Body):
    type: Literal["text"]
    text: str


class ImageBlock(Body):
    type: Literal["image"]
    source: dict[str, Any]


class ToolUseBlock(Body):
    type: Literal["tool_use"]
    id: Text
    name: Text
    input: dict[str, Any]


class ToolResultBlock(Body):
    """is_error: the model reads "Error: " before what the tool said."""

    type: Literal["tool_result"]
    tool_use_id: Text
    content: str | list[Any] | None = None
    is_error: bool | None = None


class ThinkingBlock(Body):
    type: Literal["thinking"]
    thinking: str


class Base64Source(Body):
    type: Literal["base64"]
    data: Text


class URLSource(Body):
    type: Literal["url"]
    url: Text


Block = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock
_TEXT: Mapping[str, type[Body]] = {"text": TextBlock}
_RESULT: Mapping[str, type[Body]] = {**_TEXT, "image": ImageBlock}
BLOCKS: Mapping[str, Mapping[str, type[Body]]] = {
    "system": _TEXT,
    "user": {**_RESULT, "tool_result": ToolResultBlock},
    "assistant": {**_TEXT, "thinking": ThinkingBlock, "tool_use": ToolUseBlock},
    "tool_result": _RESULT,
}
"""Those that may stand in a message of a role, or in a result."""
_SOURCES: Mapping[str, type[Body]] = {"base64": Base64Source, "url": URLSource}


def read_blocks(given: str | Sequence[Any], role: str, *, where: str) -> list[Any]:
    """Raises InvalidInput naming the place."""
    if isinstance(given, str):
        return [TextBlock(type="text", text=given)]
    kinds = BLOCKS[role]
    return [read_typed(kinds, one, UNUSED_IN_BLOCKS, where=f"{where}[{index}]") for index, one in enumerate(given)]


def image_url(block: ImageBlock, *, where: str) -> str:
    """Base64, or a URL. Raises InvalidInput."""
    source = read_typed(_SOURCES, block.source, UNUSED_IN_SOURCES, where=f"{where}.source")
    if isinstance(source, Base64Source):
        if source.data.startswith(("http://", "https://")):
            raise InvalidInput(f"{where}.source.data is not base64.", param=f"{where}.source.data")
        return source.data
    assert isinstance(source, URLSource)
    if not source.url.startswith(("http://", "https://")):
        raise InvalidInput(f"{where}.source.url is not a URL.", param=f"{where}.source.url")
    return source.url
