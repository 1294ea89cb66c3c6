"""image-text-to-text: a text about images, or the next message of a conversation with images in it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from app.tasks.base import Example, Task
from app.tasks.conversation import Conversation, ImagesAndText, as_conversation, is_one_conversation
from app.tasks.generation_parameters import GenerationParameters
from app.tasks.samples import PNG, PNG_BASE64


class ConversationParameters(GenerationParameters):
    return_full_text: bool | None = Field(
        default=None, description="Answer the text, or the conversation, with its continuation. Unset: false."
    )


class Written(BaseModel):
    """input_text: what was sent, without its files."""

    input_text: Any
    generated_text: Any


TASK = Task(
    name="image-text-to-text",
    summary="A text about images, or the next message of a conversation with images in it.",
    modality="multimodal",
    input_type=ImagesAndText | Conversation,
    parameters=ConversationParameters,
    output_type=list[Written] | list[list[Written]],
    auto_classes=("AutoModelForImageTextToText",),
    needs=("processor",),
    stages="app.runtime.multimodal.conversations:ConversationStages",
    warm_up=(
        {"messages": [{"role": "user", "content": [{"type": "image", "image": PNG}, {"type": "text", "text": "a"}]}]},
        {"max_new_tokens": 2},
    ),
    implies=("image-to-text", "visual-question-answering"),
    default_model="HuggingFaceTB/SmolVLM-256M-Instruct",
    example=Example(
        body={
            "inputs": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "base64": PNG_BASE64},
                        {"type": "text", "text": "what is it ?"},
                    ],
                }
            ],
            "parameters": {"max_new_tokens": 5},
        },
        answer=[{"input_text": [{"role": "user", "content": "..."}], "generated_text": "A red disc."}],
    ),
    batching="Conversations of equal length with images of equal size, whose requests agree in their parameters.",
    normalize=as_conversation,
    is_single=is_one_conversation,
)
