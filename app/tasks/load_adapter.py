"""load-adapter: have a worker load an adapter, so that one that cannot be used is known before anybody asks for it."""

from __future__ import annotations

from app.tasks.base import Example, Parameters, Task, assemble_always_list
from app.tasks.text import Text

TASK = Task(
    name="load-adapter",
    is_listed=False,
    summary="Load an adapter.",
    input_type=Text,
    parameters=Parameters,
    output_type=list[str],
    auto_classes=(),
    stages="app.runtime.adapter_stages:LoadAdapterStages",
    default_model="Qwen/Qwen3-0.6B",
    example=Example(body={"inputs": "sql"}, answer=["sql"]),
    batching="Nothing is computed on the device.",
    assemble=assemble_always_list,
)
