"""summarization: a text made short."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from app.tasks.base import Example, Task
from app.tasks.text import Text
from app.tasks.text2text_generation import Seq2SeqParameters


class Summary(BaseModel):
    summary_text: str
    details: dict[str, Any] | None = None


TASK = Task(
    name="summarization",
    summary="A text made short.",
    input_type=Text,
    parameters=Seq2SeqParameters,
    output_type=list[Summary] | list[list[Summary]],
    auto_classes=("AutoModelForSeq2SeqLM",),
    stages="app.runtime.seq2seq:SummarizationStages",
    warm_up=("a", {"max_new_tokens": 2}),
    implies=("text2text-generation",),
    default_model="sshleifer/distilbart-cnn-12-6",
    default_revision="a4f8f3e",
    example=Example(
        body={
            "inputs": "Ada Lovelace lived in London. She wrote the first program, which was about numbers.",
            "parameters": {"generate_parameters": {"max_new_tokens": 8}},
        },
        answer=[{"summary_text": "Ada Lovelace wrote the first program."}],
    ),
    batching="Whatever their parameters: texts that wait are computed together. Beam searches: those that agree.",
)
