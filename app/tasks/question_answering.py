"""question-answering: the span of a context that answers a question."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.tasks.base import Example, Inputs, Task, TextParameters
from app.tasks.text import Text


class QuestionAnsweringInputs(Inputs):
    question: Text
    context: Text


class QuestionAnsweringParameters(TextParameters):
    """A long context is cut into overlapping windows whatever `truncate` says: it is accepted and changes nothing."""

    top_k: int | None = Field(default=None, ge=1, le=1000, description="How many answers. Unset: 1.")
    doc_stride: int | None = Field(
        default=None, ge=0, description="Tokens that neighbouring windows share. Unset: half a window, at most 128."
    )
    max_seq_len: int | None = Field(
        default=None,
        ge=4,
        description="Tokens of a window, the question included. Unset: 384, or what the model takes.",
    )
    max_question_len: int | None = Field(default=None, ge=1, description="Cut the question to so many tokens.")
    max_answer_len: int | None = Field(default=None, ge=1, description="Longest answer in tokens. Unset: 15.")
    handle_impossible_answer: bool | None = Field(
        default=None, description="Whether the empty answer takes part. Unset: false."
    )
    align_to_words: bool | None = Field(default=None, description="Widen answers to whole words. Unset: true.")


class Answer(BaseModel):
    """start and end: characters of the context."""

    score: float
    start: int
    end: int
    answer: str


TASK = Task(
    name="question-answering",
    summary="The part of a context that answers a question.",
    input_type=QuestionAnsweringInputs,
    parameters=QuestionAnsweringParameters,
    output_type=Answer | list[Answer] | list[list[Answer]],
    auto_classes=("AutoModelForQuestionAnswering",),
    stages="app.runtime.question_answering:QuestionAnsweringStages",
    warm_up=({"question": "a", "context": "b c"}, {}),
    is_repeatable=True,
    default_model="distilbert/distilbert-base-cased-distilled-squad",
    default_revision="564e9b5",
    example=Example(
        body={"inputs": {"question": "Where does Ada live?", "context": "My name is Ada and I live in London."}},
        answer={"score": 0.97, "start": 29, "end": 35, "answer": "London"},
    ),
    batching="Windows of the contexts of any requests, whatever their parameters.",
)
