"""Who answers the inputs: a server that runs, or a fleet of our own in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from app.errors import InvalidInput
from app.tasks.base import Task
from app.tasks.requests import RequestParser


@dataclass(slots=True)
class Computed:
    """forward_s: of the device, each forward's time shared by the items that were in it."""

    num_items: int = 0
    forward_s: float = 0.0


class Model(Protocol):
    """computed: so far. Every method is called on one event loop."""

    computed: Computed

    async def ask(self, inputs: list[Any]) -> list[bytes]:
        """One answer as JSON for each input. Raises PipeserveError for all of them together."""
        ...

    async def memory_bytes(self) -> int | None:
        """Of the loaded model; None: not known."""
        ...


def check_parameters(task: Task, parameters: dict[str, Any], defaults: dict[str, Any] | None = None) -> None:
    """Before anything is started. defaults: the entry's own. Raises InvalidInput."""
    one_input, needed = task.warm_up
    RequestParser(task).parse({"inputs": one_input, "parameters": {**needed, **parameters}}, defaults=defaults)


def is_about_parameters(error: InvalidInput) -> bool:
    """Whether it is true of every row."""
    return (error.param or error.message).startswith("parameters")
