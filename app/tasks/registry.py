"""Every task that this server knows, by name: each module of this package that has a `TASK`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import get_args

import app.tasks
from app.errors import NotServed
from app.tasks.base import Modality, Task

_MODALITIES: tuple[str, ...] = get_args(Modality)


def _found() -> Iterator[Task]:
    for module in pkgutil.iter_modules(app.tasks.__path__):
        if module.name != "registry":
            task = getattr(importlib.import_module(f"app.tasks.{module.name}"), "TASK", None)
            if isinstance(task, Task):
                yield task


ALL_TASKS: Mapping[str, Task] = MappingProxyType(
    {task.name: task for task in sorted(_found(), key=lambda task: (_MODALITIES.index(task.modality), task.name))}
)
"""By canonical name, in the order in which documents list them; those included that only other dialects ask."""

TASKS: Mapping[str, Task] = MappingProxyType({name: task for name, task in ALL_TASKS.items() if task.is_listed})
"""What `/v1/<task>` serves."""

UNLISTED_TASKS = frozenset(ALL_TASKS) - frozenset(TASKS)
"""What only other dialects' routes ask, of models that declare other tasks."""

ALSO_ANSWERED_BY: Mapping[str, str] = MappingProxyType({"text-generation": "text2text-generation"})
"""Text Generation Inference's routes ask models of the latter in the words of the former."""

ALIASES: Mapping[str, str] = MappingProxyType({alias: task.name for task in TASKS.values() for alias in task.aliases})


def find_task(name: str) -> Task:
    """By name or alias. Raises NotServed, saying what there is."""
    task = TASKS.get(ALIASES.get(name, name))
    if task is None:
        raise NotServed(f'There is no task "{name}" here; there are {", ".join(TASKS)}.', param="task")
    return task
