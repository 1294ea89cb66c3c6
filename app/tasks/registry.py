"""Every task that this server knows, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from app.errors import NotServed
from app.tasks import (
    feature_extraction,
    fill_mask,
    question_answering,
    sentence_similarity,
    table_question_answering,
    text_classification,
    token_classification,
    zero_shot_classification,
)
from app.tasks.base import Task

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        module.TASK.name: module.TASK
        for module in (
            feature_extraction,
            sentence_similarity,
            text_classification,
            token_classification,
            fill_mask,
            zero_shot_classification,
            question_answering,
            table_question_answering,
        )
    }
)
"""By canonical name, in the order in which documents list them."""

ALIASES: Mapping[str, str] = MappingProxyType({alias: task.name for task in TASKS.values() for alias in task.aliases})


def find_task(name: str) -> Task:
    """By name or alias. Raises NotServed, saying what there is."""
    task = TASKS.get(ALIASES.get(name, name))
    if task is None:
        raise NotServed(f'There is no task "{name}" here; there are {", ".join(TASKS)}.', param="task")
    return task
