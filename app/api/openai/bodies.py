"""What clients send to /v1/chat/completions and /v1/completions, OpenAI's fields and vLLM's beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from app.api.fields import Body
from app.tasks.completion import (
    MAX_CHOICES,
    MAX_TOKENS,
    MAX_TOP_LOGPROBS,
    BadWords,
    Biases,
    Ids,
    ToolDefinition,
)
from app.tasks.text import Text

MAX_STOPS = 4


class StreamOptions(Body):
    include_usage: bool | None = Field(default=None, description="A last chunk that tells the usage.")
    continuous_usage_stats: bool | None = Field(default=None, description="The usage so far in every chunk (vLLM).")
    include_obfuscation: bool | None = Field(default=None, description="Accepted; chunks are never padded.")


class StructuredOutputs(Body):
    """vLLM's: exactly one of them."""

    json_: dict[str, Any] | str | None = Field(default=None, alias="json", description="A JSON schema.")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = Field(default=None, description="Lark, as llguidance reads it.")
    json_object: bool | None = None

    @model_validator(mode="after")
    def _is_one(self) -> StructuredOutputs:
        if sum(value not in (None, False) for value in self.model_dump().values()) != 1:
            raise ValueError("give one of json, regex, choice, grammar and json_object")
        return self


Stops = Annotated[list[Text], Field(max_length=MAX_STOPS)] | Text
TokenIds = list[Annotated[int, Field(ge=0)]]


class SamplingBody(Body):
    """What chats and completions have in common."""

    model: str | None = Field(default=None, description="A declared model. Unset: the first that generates text.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stops | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: Biases | None = None
    response_format: dict[str, Any] | None = Field(default=None, description="text, json_object or json_schema.")

    top_k: int | None = Field(default=None, ge=-1, description="vLLM's, as all that follow.")
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    stop_token_ids: Ids | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: int | None = Field(default=None, ge=0)
    skip_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1)
    prompt_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    allowed_token_ids: Ids | None = None
    bad_words: BadWords | None = None
    add_special_tokens: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    return_token_ids: bool | None = Field(default=None, description="A stream tells those of the answer alone.")
    return_tokens_as_token_ids: bool | None = None
    echo: bool | None = Field(default=None, description="Of a chat: begin with the last message if it is the model's.")
    keep_alive: float | str | None = Field(default=None, description="How long the model stays loaded afterwards.")

    @field_validator("stream_options")
    @classmethod
    def _options_need_a_stream(cls, options: StreamOptions | None, others: ValidationInfo) -> StreamOptions | None:
        if options is not None and not others.data.get("stream"):
            raise ValueError("these are for streams: send stream: true")
        return options


class ChatBody(SamplingBody):
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS, description="Goes before max_tokens.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: list[ToolDefinition] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    include_reasoning: bool | None = None


class CompletionBody(SamplingBody):
    prompt: Text | TokenIds | list[Text] | list[TokenIds]
    suffix: str | None = None
    best_of: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
