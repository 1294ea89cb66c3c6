"""translation: a text in another language."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from app.tasks.base import Example, Task
from app.tasks.text import Text
from app.tasks.text2text_generation import Seq2SeqParameters


class TranslationParameters(Seq2SeqParameters):
    src_lang: Text | None = Field(
        default=None, description="The text's language, as the model names it (en, eng_Latn, en_XX)."
    )
    tgt_lang: Text | None = Field(default=None, description="The language to translate into.")


class Translation(BaseModel):
    translation_text: str
    details: dict[str, Any] | None = None


TASK = Task(
    name="translation",
    summary="A text in another language.",
    input_type=Text,
    parameters=TranslationParameters,
    output_type=list[Translation] | list[list[Translation]],
    auto_classes=("AutoModelForSeq2SeqLM",),
    stages="app.runtime.seq2seq:TranslationStages",
    warm_up=("a", {"max_new_tokens": 2}),
    implies=("text2text-generation",),
    default_model="google-t5/t5-base",
    default_revision="a9723ea",
    example=Example(
        body={"inputs": "The house is small.", "parameters": {"generate_parameters": {"max_new_tokens": 8}}},
        answer=[{"translation_text": "Das Haus ist klein."}],
    ),
    batching="Whatever their parameters: texts that wait are computed together. Beam searches: those that agree.",
)
