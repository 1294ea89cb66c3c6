"""any-to-any: the next message of a conversation with images and sounds in it, by models that see and hear."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.tasks.base import Example, Task
from app.tasks.conversation import Conversation, ImagesAndText, as_conversation, is_one_conversation
from app.tasks.image_text_to_text import ConversationParameters, Written
from app.tasks.samples import WAV_BASE64


class AnyToAnyParameters(ConversationParameters):
    generation_mode: Literal["text"] | None = Field(default=None, description="Answers are texts in this version.")


TASK = Task(
    name="any-to-any",
    summary="The next message of a conversation with images and sounds in it, as a text.",
    modality="multimodal",
    input_type=ImagesAndText | Conversation,
    parameters=AnyToAnyParameters,
    output_type=list[Written] | list[list[Written]],
    auto_classes=("AutoModelForMultimodalLM",),
    needs=("processor",),
    stages="app.runtime.multimodal.conversations:ConversationStages",
    warm_up=({"messages": [{"role": "user", "content": "a"}]}, {"max_new_tokens": 2}),
    default_model="Qwen/Qwen2-Audio-7B-Instruct",
    example=Example(
        body={
            "inputs": [
                {
                    "role": "user",
                    "content": [
                        {"type": "audio", "base64": WAV_BASE64},
                        {"type": "text", "text": "what is it ?"},
                    ],
                }
            ],
            "parameters": {"max_new_tokens": 5},
        },
        answer=[{"input_text": [{"role": "user", "content": "..."}], "generated_text": "A rising tone."}],
    ),
    batching="Conversations of equal length with equal files, whose requests agree in their parameters.",
    normalize=as_conversation,
    is_single=is_one_conversation,
)
