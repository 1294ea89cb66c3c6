"""Text Generation Inference: `/generate`, `/generate_stream`, `/`, `/tokenize`."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import BaseModel, Field

from app.api.dialects.base import Answers, Asked, DialectBody, Rule, as_list, as_only
from app.tasks.text import Text

SERVER = "Text Generation Inference"


class GenerateBody(DialectBody):
    inputs: Text
    parameters: dict[str, Any] | None = Field(default=None, description="As those of text-generation.")


class CompatBody(DialectBody):
    """`/` and `/invocations`, where one body decides between an answer and a stream."""

    inputs: Text | Annotated[list[Text], Field(min_length=1)]
    parameters: dict[str, Any] | None = Field(default=None, description="As those of text-generation.")
    stream: bool | None = None


class GenerateTokenizeBody(DialectBody):
    inputs: Text
    parameters: dict[str, Any] | None = Field(default=None, description="Accepted; none of them concerns tokens.")
    add_special_tokens: bool | None = None


class Generated(BaseModel):
    generated_text: str
    details: dict[str, Any] | None = None


class PlacedToken(BaseModel):
    id: int
    text: str
    start: int
    stop: int


class StreamEvent(BaseModel):
    """The data of each server-sent event; `generated_text` and `details` come with the last."""

    index: int
    token: dict[str, Any]
    generated_text: str | None
    details: dict[str, Any] | None


def _first(answers: Answers) -> bytes:
    """An object, where the task answers a list of one."""
    return orjson.dumps(orjson.loads(answers.fragments[0])[0])


def _asked(body: GenerateBody | CompatBody, **others: Any) -> Asked:
    return Asked(
        task="text-generation",
        inputs=[body.inputs] if isinstance(body.inputs, str) else body.inputs,
        parameters=body.parameters or {},
        call_fields=body.call_fields(),
        **others,
    )


def read_generate(body: GenerateBody) -> Asked:
    return _asked(body, present=_first)


def read_generate_stream(body: GenerateBody) -> Asked:
    return _asked(body, is_stream=True)


def read_compat(body: CompatBody) -> Asked:
    present = as_only if isinstance(body.inputs, str) else as_list
    return _asked(body, present=present, is_stream=bool(body.stream))


def read_tokenize(body: GenerateTokenizeBody) -> Asked:
    return Asked(
        task="tokenize",
        inputs=[body.inputs],
        parameters={"add_special_tokens": body.add_special_tokens},
        call_fields=body.call_fields(),
        present=_placed,
    )


def _placed(answers: Answers) -> bytes:
    """TGI has a place for every token, and 0 to 0 for those that stand for no part of the text."""
    tokens = orjson.loads(answers.fragments[0])
    return orjson.dumps(
        [{"id": one["id"], "text": one["text"], "start": one["start"] or 0, "stop": one["stop"] or 0} for one in tokens]
    )


_TASKS = ("text-generation", "text2text-generation")
_EXAMPLE: dict[str, Any] = {"inputs": "Once upon a time", "parameters": {"max_new_tokens": 20}}
GENERATE = Rule(
    server=SERVER,
    summary="The text that goes on from the prompt.",
    field="inputs",
    tasks=_TASKS,
    body=GenerateBody,
    read=read_generate,
    answer=Generated,
    example=_EXAMPLE,
)
GENERATE_STREAM = Rule(
    server=SERVER,
    summary="The text that goes on from the prompt, as server-sent events, one per token.",
    field="inputs",
    tasks=_TASKS,
    body=GenerateBody,
    read=read_generate_stream,
    answer=StreamEvent,
    example=_EXAMPLE,
)
COMPAT = Rule(
    server=SERVER,
    summary="The text that goes on from the prompt; with `stream: true` as server-sent events.",
    field="inputs",
    tasks=("text-generation",),
    body=CompatBody,
    read=read_compat,
    answer=list[Generated],
    example=_EXAMPLE,
)
TOKENIZE = Rule(
    server=SERVER,
    summary="The tokens of a prompt.",
    field="inputs",
    tasks=("text-generation",),
    body=GenerateTokenizeBody,
    read=read_tokenize,
    answer=list[PlacedToken],
    example={"inputs": "Once upon a time"},
)
