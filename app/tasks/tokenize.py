"""tokenize: a text or a chat as its model's tokens. Asked by the routes of other servers' dialects only."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from app.tasks.base import Example, Inputs, Parameters, Task, assemble_always_list
from app.tasks.completion import ChatMessages, ToolDefinition
from app.tasks.text import Text


class TokenizeParameters(Parameters):
    add_special_tokens: bool | None = Field(
        default=None, description="false: without the tokens that begin and end a text. Unset: with them."
    )

    names: bool | None = Field(
        default=None, description="true: `text` is the vocabulary's own name of the token. Unset: the part of the text."
    )


class ChatToTokenize(Inputs):
    """What the model's template makes of a chat. Fields as in `CompletionInput`."""

    messages: ChatMessages
    tools: list[ToolDefinition] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = Field(default=None, description="Unset: the template has them.")
    chat_template_kwargs: dict[str, Any] | None = None


class Token(BaseModel):
    id: int
    text: str
    special: bool
    start: int | None = Field(description="The character of the text at which the token begins; null if it has none.")
    stop: int | None


TASK = Task(
    name="tokenize",
    is_listed=False,
    summary="The tokens of a text or a chat.",
    input_type=Text | ChatToTokenize,
    parameters=TokenizeParameters,
    output_type=list[list[Token]],
    auto_classes=(),
    stages="app.runtime.tokens:TokenizeStages",
    default_model="sentence-transformers/all-MiniLM-L6-v2",
    example=Example(
        body={"inputs": "A cat", "parameters": {"add_special_tokens": False}},
        answer=[[{"id": 1037, "text": "A", "special": False, "start": 0, "stop": 1}]],
    ),
    batching="Nothing is computed on the device.",
    assemble=assemble_always_list,
)
