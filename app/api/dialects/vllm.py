"""vLLM: `/tokenize` and `/detokenize`."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import BaseModel, Field

from app.api.dialects.base import Answers, Asked, DialectBody, Rule
from app.tasks.completion import GENERATING_TASKS
from app.tasks.text import Text

SERVER = "vLLM"
_TASKS = (*GENERATING_TASKS, "feature-extraction", "text-classification", "text-ranking")


class PromptBody(DialectBody):
    prompt: Text
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class TokensBody(DialectBody):
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Tokens(BaseModel):
    """token_strs: if they were asked for."""

    count: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenized(BaseModel):
    prompt: str


def read_prompt(body: PromptBody) -> Asked:
    def present(answers: Answers) -> bytes:
        tokens = orjson.loads(answers.fragments[0])
        texts = [one["text"] for one in tokens] if body.return_token_strs else None
        return orjson.dumps({"count": len(tokens), "tokens": [one["id"] for one in tokens], "token_strs": texts})

    return Asked(
        task="tokenize",
        inputs=[body.prompt],
        parameters={"add_special_tokens": body.add_special_tokens},
        call_fields=body.call_fields(),
        present=present,
    )


def read_tokens(body: TokensBody) -> Asked:
    return Asked(
        task="decode",
        inputs=[body.tokens],
        parameters={"skip_special_tokens": False},
        call_fields=body.call_fields(),
        present=lambda answers: b'{"prompt":' + answers.fragments[0] + b"}",
    )


TOKENIZE = Rule(
    server=SERVER,
    summary="The tokens of a prompt.",
    field="prompt",
    tasks=_TASKS,
    body=PromptBody,
    read=read_prompt,
    answer=Tokens,
    example={"prompt": "Once upon a time"},
)
DETOKENIZE = Rule(
    server=SERVER,
    summary="The text of tokens.",
    field="tokens",
    tasks=_TASKS,
    body=TokensBody,
    read=read_tokens,
    answer=Detokenized,
    example={"tokens": [1, 2, 3]},
)
