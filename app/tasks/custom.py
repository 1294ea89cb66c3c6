"""custom: what a model's own handler.py makes of a whole body. Asked of entries that have such a handler only.

The name is Hugging Face's: https://huggingface.co/docs/inference-endpoints/guides/custom_handler
"""

from __future__ import annotations

from typing import Any

from app.tasks.base import Example, Parameters, Task

NAME = "custom"

TASK = Task(
    name=NAME,
    is_listed=False,
    summary="What the model's own handler answers.",
    modality="multimodal",
    input_type=Any,  # the whole body
    parameters=Parameters,
    output_type=Any,
    auto_classes=(),
    needs=(),
    stages="app.runtime.handlers:HandlerStages",
    default_model="philschmid/custom-handler-distilbert",
    example=Example(body={"inputs": "A cat", "anything": [1]}, answer={"length": 5}),
    batching="Nothing: a handler takes one request at a time.",
    media_field="inputs",
)
