"""decode: a model's tokens as the text that they stand for. Asked by the routes of other servers' dialects only."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.tasks.base import Example, Parameters, Task, assemble_always_list
from app.tasks.text import TokenIds


class DecodeParameters(Parameters):
    skip_special_tokens: bool | None = Field(
        default=None, description="false: special tokens stand in the text. Unset: they do not."
    )


def _is_flat(inputs: Any, parameters: dict[str, Any]) -> bool:
    """One input is itself a list, of numbers."""
    return not isinstance(inputs, list) or not any(isinstance(one, list) for one in inputs)


TASK = Task(
    name="decode",
    is_listed=False,
    summary="The text of tokens.",
    input_type=TokenIds,
    parameters=DecodeParameters,
    output_type=list[str],
    auto_classes=(),
    stages="app.runtime.tokens:DecodeStages",
    warm_up=([0], {}),
    default_model="sentence-transformers/all-MiniLM-L6-v2",
    example=Example(body={"inputs": [101, 1037, 4937, 102]}, answer=["a cat"]),
    batching="Nothing is computed on the device.",
    is_single=_is_flat,
    assemble=assemble_always_list,
)
