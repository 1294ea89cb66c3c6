"""completion: a text or a chat goes on, in the words of OpenAI's API and vLLM's. Only other dialects' routes ask it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.tasks.base import Example, Inputs, Parameters, Task, assemble_always_list
from app.tasks.conversation import MAX_MESSAGES, read_part
from app.tasks.text import Text

TEXT_TASK = "text-generation"
ENCODED_TASK = "text2text-generation"
FILE_TASKS = ("image-text-to-text", "any-to-any")
GENERATING_TASKS = (TEXT_TASK, *FILE_TASKS, ENCODED_TASK)
"""A model that serves one of these completes, and chats if it has a chat template. That of the last is implied by
summarization and translation."""

MAX_CHOICES = 128
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20
MAX_TOKENS = 2**31 - 1
MAX_BIASES, MAX_IDS, MAX_BAD_WORDS = 1024, 4096, 256
"""Each is looked at for each token of a text, while all others wait."""

Biases = Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_BIASES)]
Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MAX_IDS)]
BadWords = Annotated[list[Text], Field(max_length=MAX_BAD_WORDS)]


# What is sent


class FunctionCall(Inputs):
    """arguments: JSON, as the model wrote it."""

    name: Text
    arguments: str = ""


class ToolCallPart(Inputs):
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Inputs):
    """One turn. content: a text, or parts (text, image, audio); an assistant's turn that calls tools may have none."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Any] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallPart] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_parts(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("content"), list):
            return values
        return {**values, "content": [_as_builtins(read_part(one)) for one in values["content"]]}


ChatMessages = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]


def _as_builtins(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(exclude_none=True)


class FunctionDefinition(Inputs):
    """parameters: a JSON schema. The arguments of a required or named call always follow it. strict: those of a call
    that the model chose to make as well, where its calls stand between marks (Hermes, Qwen)."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.:-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolDefinition(Inputs):
    type: Literal["function"]
    function: FunctionDefinition


class ToolChoice(Inputs):
    """mode: whether tools may (auto), must (required) or must not be called. names: those that may be; unset: all."""

    mode: Literal["none", "auto", "required"] = "auto"
    names: list[str] | None = None


class CompletionInput(Inputs):
    """Either `prompt` (a text, or its tokens) or `messages`.

    plain_prompt: what a model without a chat template reads in the place of messages; unset: it refuses them.
    """

    prompt: str | list[Annotated[int, Field(ge=0)]] | None = None
    suffix: str | None = None
    add_special_tokens: bool | None = None

    messages: ChatMessages | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    documents: list[dict[str, Any]] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    include_reasoning: bool | None = None
    plain_prompt: str | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> CompletionInput:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("there must be either a prompt or messages")
        return self


class Structure(Inputs):
    """What the text must be. kind and value: `json_object` (no value), `json_schema` (the schema), `regex` (a regular
    expression), `choice` (a list of texts), `grammar` (llguidance's Lark)."""

    kind: Literal["json_object", "json_schema", "regex", "choice", "grammar"]
    value: Any = None


class CompletionParameters(Parameters):
    """How it goes on. Unset: as the model's generation_config says, else as OpenAI's API does (temperature 1)."""

    max_tokens: int | None = Field(
        default=None,
        ge=0,
        le=MAX_TOKENS,
        description="Unset: as many as there is room. 0: none, for the prompt's own log-probabilities.",
    )
    clip_max_tokens: bool | None = Field(
        default=None, description="Of more tokens than there is room for, as many as there is. Unset: refuse."
    )
    min_tokens: int | None = Field(default=None, ge=0, description="No end before so many tokens.")
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES, description="Choices for each prompt.")
    best_of: int | None = Field(default=None, ge=1, le=MAX_CHOICES, description="Of so many choices the likeliest n.")
    temperature: float | None = Field(default=None, ge=0, le=2, description="0: always the likeliest token.")
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, description="0 and -1: of all tokens.")
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: Biases | None = Field(default=None, description="By token id, added to its logit.")
    stop: Annotated[list[Text], Field(max_length=MAX_STOPS)] | None = None
    stop_token_ids: Ids | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    allowed_token_ids: Annotated[Ids, Field(min_length=1)] | None = None
    bad_words: BadWords | None = None
    skip_special_tokens: bool | None = Field(default=None, description="Unset: true.")
    logprobs: bool | None = Field(default=None, description="Tell the tokens and their log-probabilities.")
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS, description="And of so many others.")
    prompt_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    echo: bool | None = Field(default=None, description="Put the prompt before the text.")
    return_token_ids: bool | None = Field(default=None, description="Tell the tokens' ids, without probabilities.")
    truncate_prompt_tokens: int | None = Field(
        default=None, ge=-1, description="Keep so many tokens at the end of the prompt; -1: as many as there is room."
    )
    structure: Structure | None = None


# What is answered


class Alternative(msgspec.Struct, frozen=True, omit_defaults=True):
    """data: the token's own bytes, where its text is not all of a character."""

    id: int
    text: str
    logprob: float
    data: bytes | None = None


class Token(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """text: what the token adds to the text, or stands for by itself. logprob: None where none was asked for, and for
    a prompt's first token. top: the likeliest at its place, best first."""

    id: int
    text: str
    logprob: float | None = None
    is_special: bool = False
    top: tuple[Alternative, ...] = ()
    data: bytes | None = None


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call of a tool, or a part of one: `id` and `name` come with its first part, `arguments` (JSON) in pieces.

    index: of the call among those of its choice.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one step adds to one choice. Everything may be empty but the index: text is held back while it may yet be
    part of a stop text or of a tool call.

    prompt: index of the input. choice: index among the choices of that input. tokens: only if they were asked for
    (`logprobs`, `return_token_ids`, details). num_tokens: all tokens of this choice so far; num_reasoning_tokens: of
    these. finish_reason: with the last delta of the choice: "stop" (an end token or stop text), "length" or
    "tool_calls". stop_reason: the stop text or stop token id that was met; None for the model's own end.
    """

    prompt: int = 0
    choice: int = 0
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: tuple[Token, ...] = ()
    num_tokens: int = 0
    num_reasoning_tokens: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way in which the prompt goes on, complete. Fields as in `Delta`. cumulative_logprob: of all its tokens."""

    text: str
    finish_reason: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: tuple[Token, ...] = ()
    num_tokens: int = 0
    num_reasoning_tokens: int = 0
    stop_reason: str | int | None = None
    cumulative_logprob: float | None = None
    seed: int | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one input. prompt_tokens: the prompt's, if they were asked for (`prompt_logprobs`, or `echo` with
    `logprobs`, or `return_token_ids`). prompt_text: with `echo`."""

    choices: tuple[Choice, ...]
    num_prompt_tokens: int
    num_cached_tokens: int = 0
    num_tokens: int = 0  # of all choices, those that `best_of` left out included
    prompt_tokens: tuple[Token, ...] | None = None
    prompt_text: str | None = None


def read_completion(fragment: bytes) -> Completion:
    return msgspec.json.decode(fragment, type=Completion)


def _count(one_input: Any, parameters: dict[str, Any]) -> int:
    return int(max(parameters.get("n", 1), parameters.get("best_of", 1)))


TASK = Task(
    name="completion",
    is_listed=False,
    summary="How a text or a chat goes on.",
    input_type=CompletionInput,
    parameters=CompletionParameters,
    output_type=dict[str, Any],
    auto_classes=(),
    stages="app.runtime.completion:CompletionStages",
    default_model="Qwen/Qwen3-0.6B",
    example=Example(
        body={"inputs": {"prompt": "The capital of France is"}, "parameters": {"max_tokens": 2}},
        answer={
            "choices": [{"text": " Paris,", "finish_reason": "length", "num_tokens": 2}],
            "num_prompt_tokens": 5,
            "num_tokens": 2,
        },
    ),
    batching="Whatever their parameters: prompts and choices are computed together, token by token.",
    count=_count,
    assemble=assemble_always_list,
)
