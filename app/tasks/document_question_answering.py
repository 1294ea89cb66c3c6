"""document-question-answering: the answer to a question about a page."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema

from app.tasks.base import Example, Inputs, Parameters, Task
from app.tasks.media import Image, object_media
from app.tasks.samples import PNG, PNG_BASE64
from app.tasks.text import Text


def _check_box(box: Any) -> Any:
    """Raises ValueError."""
    is_pair = isinstance(box, list) and len(box) == 2 and isinstance(box[0], str) and isinstance(box[1], list)
    if not is_pair or len(box[1]) != 4 or not all(isinstance(side, int | float) for side in box[1]):
        raise ValueError("must be [word, [left, top, right, bottom]]")
    if not all(0 <= side <= 1000 for side in box[1]):
        raise ValueError("sides are thousandths of the page, from 0 to 1000")
    return [box[0], [int(side) for side in box[1]]]


WordBox = Annotated[list[Any], PlainValidator(_check_box), WithJsonSchema({"type": "array"})]


class DocumentQuestionInputs(Inputs):
    image: Image
    question: Text


class DocumentQuestionParameters(Parameters):
    word_boxes: Annotated[list[WordBox], Field(min_length=1, max_length=20_000)] | None = Field(
        default=None,
        description="The page's words, each as [word, [left, top, right, bottom]] in thousandths of its sides. Unset:"
        " read by Tesseract, where that is installed.",
    )
    top_k: int | None = Field(default=None, ge=1, le=1000, description="How many answers. Unset: 1.")
    doc_stride: int | None = Field(default=None, ge=0, description="Tokens that neighbouring windows share.")
    max_seq_len: int | None = Field(default=None, ge=8, description="Tokens of a window, the question included.")
    max_question_len: int | None = Field(default=None, ge=1, description="Cut the question to so many tokens.")
    max_answer_len: int | None = Field(default=None, ge=1, description="Longest answer in tokens. Unset: 15.")
    handle_impossible_answer: bool | None = Field(
        default=None, description="Whether the empty answer takes part. Unset: false."
    )
    lang: str | None = Field(default=None, description="The page's language, for Tesseract.")


class DocumentAnswer(BaseModel):
    """start, end: words of the page. Models that write their answer tell neither these nor a score."""

    answer: str
    score: float | None = None
    start: int | None = None
    end: int | None = None


def _normalize(body: dict[str, Any]) -> dict[str, Any]:
    """`word_boxes` may stand among the inputs."""
    body = object_media(("image", "question"))(body)
    inputs = body.get("inputs")
    if isinstance(inputs, dict) and "word_boxes" in inputs:
        boxes = inputs["word_boxes"]
        body = {**body, "inputs": {name: value for name, value in inputs.items() if name != "word_boxes"}}
        body["parameters"] = {"word_boxes": boxes, **(body.get("parameters") or {})}
    return body


TASK = Task(
    name="document-question-answering",
    summary="The answer to a question about a page.",
    modality="multimodal",
    input_type=DocumentQuestionInputs,
    parameters=DocumentQuestionParameters,
    output_type=list[DocumentAnswer] | list[list[DocumentAnswer]],
    auto_classes=("AutoModelForDocumentQuestionAnswering", "AutoModelForImageTextToText"),
    needs=("tokenizer", "image_processor?"),
    stages="app.runtime.vision.documents:DocumentQuestionStages",
    warm_up=({"image": PNG, "question": "a"}, {"word_boxes": [["a", [10, 10, 200, 60]]]}),
    default_model="impira/layoutlm-document-qa",
    default_revision="beed3c4",
    example=Example(
        body={
            "inputs": {"image": PNG_BASE64, "question": "how much is it ?"},
            "parameters": {"word_boxes": [["total", [10, 10, 200, 60]], ["seven", [210, 10, 400, 60]]]},
        },
        answer=[{"score": 0.92, "answer": "seven", "start": 1, "end": 1}],
    ),
    batching="Windows of equal length of any pages.",
    media_field="inputs.image",
    normalize=_normalize,
)
