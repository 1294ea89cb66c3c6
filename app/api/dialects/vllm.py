"""vLLM: `/tokenize` of prompts and chats, and `/detokenize`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, Field

from app.api.dialects.base import Answers, Asked, DialectBody, Rule
from app.api.fields import Unused
from app.api.openai.fields import UNUSED
from app.api.openai.wanted import chat_of
from app.errors import InvalidInput
from app.tasks.completion import GENERATING_TASKS, ToolDefinition
from app.tasks.text import Text

SERVER = "vLLM"
_TASKS = (*GENERATING_TASKS, "feature-extraction", "text-classification", "text-ranking")


class PromptBody(DialectBody):
    prompt: Text
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class ChatPromptBody(DialectBody):
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    tools: list[ToolDefinition] | None = None
    add_generation_prompt: bool | None = Field(default=None, description="Unset: true, unless a message is continued.")
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = Field(default=None, description="Unset: false, for the template has them.")
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None


UNUSED_IN_CHAT = Unused(
    refused={
        **{name: UNUSED.refused[name] for name in ("chat_template", "mm_processor_kwargs")},
        "media_io_kwargs": (({},), "files are decoded as `media:` of models.yaml says"),
    }
)


class TokensBody(DialectBody):
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Tokens(BaseModel):
    """token_strs: if they were asked for."""

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenized(BaseModel):
    prompt: str


def read_prompt(body: PromptBody) -> Asked:
    return Asked(
        task="tokenize",
        inputs=[body.prompt],
        parameters={"add_special_tokens": body.add_special_tokens, "names": body.return_token_strs},
        names={"inputs[0]": "prompt"},
        call_fields=body.call_fields(),
        present=partial(_present_tokens, bool(body.return_token_strs)),
    )


def read_chat(body: ChatPromptBody) -> Asked:
    """As /v1/chat/completions would read it."""
    if body.continue_final_message and body.add_generation_prompt:
        name = "add_generation_prompt"
        raise InvalidInput(f"{name}: a message that is continued has nothing after it.", param=name)
    same = ("add_generation_prompt", "continue_final_message", "add_special_tokens", "chat_template_kwargs")
    return Asked(
        task="tokenize",
        inputs=[{**chat_of(body.messages, body.tools), **{name: getattr(body, name) for name in same}}],
        parameters={"names": body.return_token_strs},
        names={"inputs[0]": "", "inputs": ""},
        call_fields=body.call_fields(),
        present=partial(_present_tokens, bool(body.return_token_strs)),
    )


def _present_tokens(with_names: bool, answers: Answers) -> bytes:
    tokens = orjson.loads(answers.fragments[0])
    return orjson.dumps(
        {
            "count": len(tokens),
            "max_model_len": answers.max_length,
            "tokens": [one["id"] for one in tokens],
            "token_strs": [one["text"] for one in tokens] if with_names else None,
        }
    )


def read_tokens(body: TokensBody) -> Asked:
    return Asked(
        task="decode",
        inputs=[body.tokens],
        parameters={"skip_special_tokens": False},
        names={"inputs[0]": "tokens"},
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
TOKENIZE_CHAT = Rule(
    server=SERVER,
    summary="The tokens of a chat, by the model's own template.",
    field="messages",
    tasks=GENERATING_TASKS,
    body=ChatPromptBody,
    read=read_chat,
    answer=Tokens,
    example={"messages": [{"role": "user", "content": "Hello!"}]},
    unused=UNUSED_IN_CHAT,
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
