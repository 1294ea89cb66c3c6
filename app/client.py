"""A server that runs, as our own commands ask it: with which key, around which proxies, what it means by a name, and
what it says when it refuses.

The tasks are imported where they are asked for: every command imports this module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from app.errors import InvalidInput

if TYPE_CHECKING:
    import httpx2 as httpx

    from app.tasks.base import Task

KEY_VARIABLE = "PIPESERVE_API_KEY"
_ITSELF = ("localhost", "127.0.0.1", "[::1]")
"""What is on this machine is reached without the proxy that the environment may name for all else."""


def client_options() -> dict[str, Any]:
    """Keywords of httpx's clients: the key, which stands in no list of processes, and ways around proxies."""
    key = os.environ.get(KEY_VARIABLE, "")
    return {
        "headers": {"authorization": f"Bearer {key}"} if key else {},
        "mounts": {f"all://{host}": None for host in _ITSELF},
    }


def model_path(model: str) -> str:
    return f"/v1/models/{quote(model)}"


def read_card(body: Any) -> dict[str, Any]:
    """What a server of ours says of a model. Raises ValueError, LookupError, TypeError for what is none of ours."""
    card = dict(body)
    _ = card["id"], card["state"], card["tasks"]
    return card


def named_task(model: str, task_name: str | None = None) -> Task | None:
    """What `MODEL` and `--task` mean where no model has this name: the task that is called so, answered by the first
    model for it."""
    from app.tasks.registry import ALIASES, TASKS, find_task

    is_task = task_name is None and (model in TASKS or model in ALIASES)
    return find_task(model) if is_task else None


def task_of(card: Mapping[str, Any], task_name: str | None) -> Task:
    """What the model of this card is asked for. Raises NotServed, InvalidInput."""
    from app.tasks.registry import TASKS, find_task

    if task_name is not None:
        return find_task(task_name)
    served = next((name for name in card["tasks"] if name in TASKS), None)
    if served is None:
        raise InvalidInput(f'The server does not say yet what "{card["id"]}" is for: say --task.')
    return TASKS[served]


def told_by(response: httpx.Response) -> tuple[str | None, str | None]:
    """As `told_in`, of an answer."""
    try:
        body = response.json()
    except ValueError:  # not in our words
        return None, None
    return told_in(body)


def told_in(body: Any) -> tuple[str | None, str | None]:
    """The sentence and the code of an error, in Hugging Face's or OpenAI's shape; None where it is in neither."""
    try:
        told = body["error"]
        return (str(told["message"]), None) if isinstance(told, dict) else (str(told), body.get("error_type"))
    except (LookupError, TypeError, AttributeError):
        return None, None
