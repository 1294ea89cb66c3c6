"""A form as it is opened: what its address says, an example of the card with its files fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from app.api.schemas import ModelCard, ModelDetails
from app.tasks.base import Task
from app.tasks.registry import TASKS
from app.ui.client import Api, ApiError
from app.ui.try_it.asked import Asked, CardExample, asked_of, examples_of
from app.ui.try_it.form import FILE_KINDS, Field, fields_of, more_parameters, values_of

CHAT = "chat"
"""In addresses, in place of a task."""
MAX_EXAMPLE_BYTES = 20_000_000


@dataclass(frozen=True, kw_only=True, eq=False)  # Gradio hashes what a page's state holds
class Opened:
    """values: of the form that the address names, where it gives any; files as paths on this disk. parameters: None
    where the task's example has them."""

    details: ModelDetails
    asked: Asked = field(default_factory=Asked)
    task: str | None = None
    values: list[Any] | None = None
    parameters: Mapping[str, Any] | None = None


def tasks_of(card: ModelCard) -> list[Task]:
    return [TASKS[name] for name in [*card.tasks, *card.implied_tasks] if name in TASKS]


def examples_for(task: Task, details: ModelDetails) -> list[CardExample]:
    files = {file.path for file in details.files if file.size <= MAX_EXAMPLE_BYTES}
    return examples_of(task, details.card_data, fields_of(task), files)


async def opened(api: Api, key: str | None, query: Mapping[str, str], folder: Path) -> Opened:
    """folder: where files may lie that browsers are sent. Raises ApiError where the model cannot be shown."""
    asked = asked_of(query)
    details = await api.details(key, asked.model)
    tasks = tasks_of(details.model)
    task = next((one for one in tasks if one.name == asked.task), tasks[0] if tasks else None)
    if task is None or asked.task == CHAT:
        return Opened(details=details, asked=asked, task=asked.task)
    examples = examples_for(task, details)
    is_example = asked.example is not None and 0 < asked.example <= len(examples)
    body = examples[(asked.example or 0) - 1].body if is_example else asked.body
    if not body:
        return Opened(details=details, asked=asked, task=task.name if asked.task else None)
    return Opened(
        details=details,
        asked=asked,
        task=task.name,
        values=await fetched_values(api, key, details.model.id, fields_of(task), body, folder),
        parameters=more_parameters(body) or (None if is_example else {}),
    )


async def fetched_values(
    api: Api, key: str | None, model: str, fields: list[Field], body: Mapping[str, Any], folder: Path
) -> list[Any]:
    """As components take them; a file that cannot be had is left out."""
    values = values_of(fields, body)
    for at, one in enumerate(fields):
        if one.kind in FILE_KINDS and values[at] is not None:
            try:
                values[at] = _kept(await api.media(key, model, values[at]), values[at], folder)
            except ApiError:
                values[at] = None
    return values


def _kept(content: bytes, path: str, folder: Path) -> str:
    """Under a name that says its content, so that it is written once."""
    place = folder / hashlib.sha256(content).hexdigest()[:32]
    place.mkdir(parents=True, exist_ok=True)
    file = place / PurePosixPath(path).name
    if not file.exists():
        file.write_bytes(content)
    return str(file)
