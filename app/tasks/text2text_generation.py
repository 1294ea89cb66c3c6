"""text2text-generation: a text made from a text, by encoder-decoder models."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.tasks.base import Example, Task, TextParameters
from app.tasks.generation_parameters import GenerationParameters
from app.tasks.text import Text


class Seq2SeqParameters(GenerationParameters, TextParameters):
    """Unset: as the model's generation_config says."""

    clean_up_tokenization_spaces: bool | None = Field(
        default=None, description="Remove the spaces that some tokenizers leave before punctuation."
    )


class GeneratedText(BaseModel):
    generated_text: str


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
    batching="Texts whose requests agree in their generation parameters.",
)
