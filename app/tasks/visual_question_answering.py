"""visual-question-answering: the answer to a question about an image."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.tasks.base import Example, Inputs, Task
from app.tasks.generation_parameters import GenerationParameters
from app.tasks.media import Image, object_media
from app.tasks.samples import PNG, PNG_BASE64
from app.tasks.text import Text


class VisualQuestionAnsweringInputs(Inputs):
    image: Image
    question: Text


class VisualQuestionAnsweringParameters(GenerationParameters):
    top_k: int | None = Field(
        default=None, ge=1, description="How many answers, of models that choose among known ones. Unset: 5."
    )


class Answer(BaseModel):
    """score: of models that write their answer, the mean probability of its tokens."""

    answer: str
    score: float


TASK = Task(
    name="visual-question-answering",
    aliases=("vqa",),
    summary="The answer to a question about an image.",
    modality="multimodal",
    input_type=VisualQuestionAnsweringInputs,
    parameters=VisualQuestionAnsweringParameters,
    output_type=list[Answer] | list[list[Answer]],
    auto_classes=("AutoModelForVisualQuestionAnswering", "AutoModelForImageTextToText"),
    needs=("processor?", "image_processor?", "tokenizer?"),
    stages="app.runtime.multimodal.visual_questions:VisualQuestionStages",
    warm_up=({"image": PNG, "question": "a"}, {}),
    default_model="dandelin/vilt-b32-finetuned-vqa",
    default_revision="d0a1f6a",
    example=Example(
        body={"inputs": {"image": PNG_BASE64, "question": "what is it ?"}},
        answer=[{"answer": "ball", "score": 0.87}, {"answer": "frisbee", "score": 0.05}],
    ),
    batching="Questions of equal length about images that the model's processor makes equally large.",
    media_field="inputs.image",
    normalize=object_media(("image", "question")),
)
