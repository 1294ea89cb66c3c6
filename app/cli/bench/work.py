"""What is sent: whole HTTP requests, one for each input, over and over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.dataset.columns import InputColumns
    from app.dataset.rows import Source
    from app.tasks.base import Task

_LONGER: dict[str, dict[str, Any]] = {"text-generation": {"max_new_tokens": 64}}
"""Of tasks whose example is over before there is a time per token."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """path: of the route. bodies: of requests, JSON."""

    path: str
    bodies: list[bytes]
    streams: bool


def make_work(
    task: Task, model: str | None, inputs: Iterable[Any] | None, parameters: Mapping[str, Any], *, streams: bool
) -> Work:
    """model: None: the server's first for the task. inputs: None: the task's example, with its parameters."""
    import msgspec

    example = task.example.body
    wanted = {**(example.get("parameters", {}) if inputs is None else {}), **_LONGER.get(task.name, {}), **parameters}
    same: dict[str, Any] = {} if model is None else {"model": model}
    if wanted:
        same["parameters"] = wanted
    if streams:
        same["stream"] = True
    given = [example["inputs"]] if inputs is None else inputs
    bodies = [msgspec.json.encode({**same, "inputs": one}) for one in given]
    return Work(path=f"/v1/{task.name}", bodies=bodies, streams=streams)


def inputs_of(source: Source, columns: InputColumns) -> list[Any]:
    """Of the rows that can be read. Raises InvalidInput where there is none."""
    from app.dataset.rows import BadRow
    from app.errors import InvalidInput

    found, problem = [], ""
    for row in source.rows():
        try:
            found.append(columns.input_of(row))
        except BadRow as error:
            problem = problem or f"{error}"
    if not found:
        raise InvalidInput(f"--data: no row can be read: {problem}")
    return found
