"""text2text-generation: a text made from a text, by encoder-decoder models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.tasks.base import Example, Task, TextParameters
from app.tasks.generation_parameters import GenerationParameters
from app.tasks.text import Text


class Seq2SeqParameters(GenerationParameters, TextParameters):
    """Unset: as the model's generation_config says."""

    stop: Annotated[list[Text], Field(max_length=16)] | Text | None = Field(
        default=None, description="Texts that end the answer, of which they stay the last part."
    )
    details: bool | None = Field(default=None, description="Tell each token with its log-probability.")
    top_n_tokens: int | None = Field(
        default=None, ge=0, le=20, description="With details: so many alternatives at each token's place."
    )
    clean_up_tokenization_spaces: bool | None = Field(
        default=None, description="Remove the spaces that some tokenizers leave before punctuation."
    )


class GeneratedText(BaseModel):
    """details: as Text Generation Inference tells them."""

    generated_text: str
    details: dict[str, Any] | None = None


TASK = Task(
    name="text2text-generation",
    summary="A text made from a text, by an encoder-decoder model.",
    input_type=Text,
    parameters=Seq2SeqParameters,
    output_type=list[GeneratedText] | list[list[GeneratedText]],
    auto_classes=("AutoModelForSeq2SeqLM",),
    stages="app.runtime.seq2seq:Text2TextStages",
    warm_up=("a", {"max_new_tokens": 2}),
    implies=("summarization", "translation"),
    default_model="google/flan-t5-small",
    example=Example(
        body={"inputs": "Who wrote the first program?", "parameters": {"max_new_tokens": 5}},
        answer=[{"generated_text": "Ada Lovelace"}],
    ),
    batching="Whatever their parameters: texts that wait are computed together. Beam searches: those that agree.",
)
