"""A model of a server that runs, asked over HTTP at low priority, beside its other clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from app.client import client_options, model_path, named_task, read_card, task_of, told_by
from app.dataset.asking import Computed
from app.errors import (
    BackendFailed,
    DeadlineExceeded,
    Forbidden,
    InputTooLarge,
    InvalidInput,
    NotServed,
    Overloaded,
    PipeserveError,
    Unauthorized,
    Unavailable,
    error_classes,
)
from app.tasks.base import JSON, Task

_CONNECT_S = 10.0
_ANSWER_S = 3600.0  # longer than a server's own deadline
_MAX_CONNECTIONS = 512
_BY_STATUS: dict[int, type[PipeserveError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotServed,
    413: InputTooLarge,
    429: Overloaded,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}
"""For what is not in this server's own words: proxies answer, too."""


class RemoteModel:
    """Implements `Model`. name: of the model at the server; None: the server's first for the task."""

    def __init__(self, client: httpx2.AsyncClient, name: str | None, task: Task, parameters: dict[str, Any]) -> None:
        self.computed = Computed()
        self._client = client
        self._model = name
        self._task = task
        self._parameters = parameters

    async def ask(self, inputs: list[Any]) -> list[bytes]:
        is_single = len(inputs) == 1 and self._task.is_single(inputs, self._parameters)
        body = {"inputs": inputs[0] if is_single else inputs, "parameters": self._parameters}
        if self._model is not None:
            body["model"] = self._model
        response = await _send(self._client, "POST", f"/v1/{self._task.name}", msgspec.json.encode(body))
        try:
            answers = [response.content] if is_single else list(map(bytes, _read_array(response.content)))
        except msgspec.DecodeError:
            raise BackendFailed("The server's answer is not a JSON array.") from None
        if len(answers) != len(inputs):
            raise BackendFailed(f"The server gave {len(answers)} answers to {len(inputs)} inputs.")
        self._count(response, len(inputs))
        return answers

    def _count(self, response: httpx2.Response, num_inputs: int) -> None:
        try:
            forward_ms, batch_size = float(response.headers["x-forward-time"]), int(response.headers["x-batch-size"])
        except (KeyError, ValueError):
            return
        self.computed.num_items += num_inputs
        self.computed.forward_s += forward_ms / 1000 * min(1.0, num_inputs / max(1, batch_size))

    async def memory_bytes(self) -> int | None:
        cards = (await _send(self._client, "GET", "/v1/models")).json()["data"]
        mine = next((card for card in cards if _is_mine(card, self._model, self._task)), None)
        return None if mine is None else mine["memory_bytes"]


_read_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _is_mine(card: dict[str, Any], model: str | None, task: Task) -> bool:
    if model is not None:
        return model in (card["id"], *card["aliases"])
    return task.name in (*card["tasks"], *card["implied_tasks"])


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """url: checked."""
    options = client_options()
    options["headers"] |= {"accept": JSON, "x-priority": "low", "content-type": JSON}
    async with httpx2.AsyncClient(
        base_url=url,
        timeout=httpx2.Timeout(_ANSWER_S, connect=_CONNECT_S),
        limits=httpx2.Limits(max_connections=_MAX_CONNECTIONS),
        **options,
    ) as client:
        yield client


async def find_remote(client: httpx2.AsyncClient, model: str, task_name: str | None) -> tuple[str | None, Task]:
    """What `MODEL` and `--task` mean to the server: the model's name there, and the task. Raises PipeserveError."""
    try:
        response = await _send(client, "GET", model_path(model))
    except NotServed:
        if (task := named_task(model, task_name)) is None:
            raise
        return None, task
    try:
        card = read_card(response.json())
    except (ValueError, LookupError, TypeError):
        raise Unavailable(f"{client.base_url} is no Pipeserve server: its /v1/models is none of ours.") from None
    return model, task_of(card, task_name)


async def _send(client: httpx2.AsyncClient, method: str, path: str, content: bytes | None = None) -> httpx2.Response:
    """Raises PipeserveError."""
    try:
        response = await client.request(method, path, content=content)
    except httpx2.TransportError as error:
        told = (str(error) or type(error).__name__).rstrip(".")
        raise Unavailable(
            f"{client.base_url} cannot be reached: {told}. Is it running? --url or PIPESERVE_URL names another."
        ) from None
    if response.is_success:
        return response
    raise error_of(response)


def error_of(response: httpx2.Response) -> PipeserveError:
    """The error that the server answered, as it was there."""
    told, code = told_by(response)
    message = told or f"The server answered {response.status_code}."
    kind = error_classes().get(code or "") or _BY_STATUS.get(response.status_code)
    if kind is None:
        kind = InvalidInput if response.is_client_error else BackendFailed
    if kind.retryable and response.headers.get("x-should-retry") == "false":
        kind = error_classes()["model_failed"]
    return kind(message, retry_after_s=_seconds(response.headers.get("retry-after")))


def _seconds(value: str | None) -> float | None:
    try:
        return None if value is None else max(0.0, float(value))
    except ValueError:  # a date
        return None
