"""image-to-text: a caption, or the text that is written in an image."""

from __future__ import annotations

from pydantic import BaseModel

from app.tasks.base import Example, Task, assemble_list
from app.tasks.generation_parameters import GenerationParameters
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64


class Caption(BaseModel):
    generated_text: str


def _assemble_for_javascript(fragments: list[bytes], *, is_list: bool) -> bytes:
    """That client wants an object, where Python's wants a list of one."""
    return assemble_list([fragment[1:-1] for fragment in fragments], is_list=is_list)


TASK = Task(
    name="image-to-text",
    summary="A caption of an image, or the text that is written in it.",
    modality="multimodal",
    input_type=Image,
    parameters=GenerationParameters,
    output_type=list[Caption] | list[list[Caption]],
    auto_classes=("AutoModelForImageTextToText",),
    needs=("processor?", "image_processor?", "tokenizer?"),
    stages="app.runtime.multimodal.captions:ImageToTextStages",
    warm_up=(PNG, {"max_new_tokens": 2}),
    default_model="Salesforce/blip-image-captioning-base",
    default_revision="82a3776",
    example=Example(
        body={"inputs": PNG_BASE64, "parameters": {"max_new_tokens": 5}},
        answer=[{"generated_text": "a red ball"}],
    ),
    batching="Images that the model's processor makes equally large, whose requests agree in their parameters.",
    media_field="inputs",
    normalize=single_media("image"),
    assemble_for_javascript=_assemble_for_javascript,
)
