"""/v1/batches: requests in a file, answered beside live ones, at low priority."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from app.api.fields import Body, read_as
from app.api.openai.embeddings import EMBEDDINGS
from app.api.openai.endpoint import CHAT, COMPLETIONS
from app.api.openai.files import json_response, read_expiry
from app.api.openai.moderations import MODERATIONS
from app.api.pages import page_of, read_list_query
from app.api.record import record_of
from app.api.responses.endpoint import RESPONSES
from app.api.routing import answer_routes
from app.api.tasks import TaskAnswerer
from app.batches.records import BATCH_PURPOSE, Batch, Problem
from app.batches.runner import BatchRunner
from app.batches.store import StoreThread, make_id
from app.durations import parse_duration
from app.errors import InvalidInput, NotServed
from app.tasks.registry import TASKS

BATCHES = "v1/batches"
ONE_BATCH = f"{BATCHES}/{{batch_id}}"
ENDPOINTS = tuple(
    f"/{path}" for path in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MODERATIONS, *(f"v1/{task}" for task in TASKS))
)
MAX_WINDOW_S = 30 * 86_400
_MAX_PAGE, _USUAL_PAGE = 100, 20
_MAX_METADATA = 16
_MAX_NAME, _MAX_VALUE = 64, 512


class ExpiresAfter(Body):
    anchor: Literal["created_at"]
    seconds: int


class BatchBody(Body):
    input_file_id: str = Field(description="A file with the purpose `batch`: a request on each line.")
    endpoint: str = Field(description="`/v1/chat/completions`, `/v1/embeddings`, ..., or any task's, `/v1/<task>`.")
    completion_window: str = Field(
        description="What is not answered then is not answered at all: `24h`, or another time of up to 30 days."
    )
    metadata: dict[str, str] | None = Field(default=None, description="Up to 16 texts of yours, by name.")
    output_expires_after: ExpiresAfter | None = Field(
        default=None, description="How long the files of answers are kept. Unset: 30 days."
    )


class Batches:
    """Owned by the event loop."""

    def __init__(
        self, answerer: TaskAnswerer, store: StoreThread, runner: BatchRunner, *, clock: Callable[[], float]
    ) -> None:
        """clock: unix time."""
        self._answerer = answerer
        self._store = store
        self._runner = runner
        self._clock = clock

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`."""
        record = record_of(scope)
        body = read_as(BatchBody, await self._answerer.read_object(receive, record))
        batch = self._described(body, record.caller.name)
        await self._runner.resume()
        file = await self._store.do(lambda store: store.file(body.input_file_id, batch.owner))
        if file is None or file.purpose != BATCH_PURPOSE:
            shown = body.input_file_id[:64]
            raise InvalidInput(
                f'input_file_id: there is no file "{shown}" with the purpose batch.', param="input_file_id"
            )
        await self._runner.run(batch)
        await json_response(batch_object(self._runner.latest(batch)))(scope, receive, send)

    def _described(self, body: BatchBody, owner: str) -> Batch:
        """Raises InvalidInput."""
        if body.endpoint not in ENDPOINTS:
            raise InvalidInput(f"endpoint must be one of {', '.join(ENDPOINTS)}.", param="endpoint")
        _check_metadata(body.metadata or {})
        expiry = body.output_expires_after
        now = int(self._clock())
        return Batch(
            id=make_id("batch_"),
            owner=owner,
            endpoint=body.endpoint,
            input_file_id=body.input_file_id,
            completion_window=body.completion_window,
            created_at=now,
            expires_at=now + _window_s(body.completion_window),
            output_ttl_s=read_expiry({} if expiry is None else expiry.model_dump(), param="output_expires_after"),
            metadata=body.metadata,
        )

    async def list_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = read_list_query(scope, ("after", "limit"))
        await self._runner.resume()
        owner = record_of(scope).caller.name
        found = await self._store.do(lambda store: store.batches(owner))
        shown = [batch_object(self._runner.latest(one)) for one in found]
        await json_response(page_of(shown, query, max_items=_MAX_PAGE, usual=_USUAL_PAGE))(scope, receive, send)

    async def retrieve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await json_response(batch_object(await self._batch(scope)))(scope, receive, send)

    async def cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        batch = await self._runner.cancel(await self._batch(scope))
        await json_response(batch_object(batch))(scope, receive, send)

    async def _batch(self, scope: Scope) -> Batch:
        """Raises NotServed."""
        await self._runner.resume()
        batch_id, owner = str(scope["path_params"]["batch_id"]), record_of(scope).caller.name
        batch = await self._store.do(lambda store: store.batch(batch_id, owner))
        if batch is None:
            raise NotServed(f'There is no batch "{batch_id[:64]}".', param="batch_id")
        return self._runner.latest(batch)

    def routes(self) -> list[BaseRoute]:
        return answer_routes(
            (
                ("POST", f"/{BATCHES}", self.create),
                ("GET", f"/{BATCHES}", self.list_all),
                ("GET", f"/{ONE_BATCH}", self.retrieve),
                ("POST", f"/{ONE_BATCH}/cancel", self.cancel),
            )
        )


def _window_s(given: str) -> int:
    """Raises InvalidInput."""
    try:
        seconds = parse_duration(given)
    except ValueError as error:
        raise InvalidInput(f"completion_window: {error}", param="completion_window") from None
    if not 1 <= seconds <= MAX_WINDOW_S:
        raise InvalidInput("completion_window must be from 1s to 30d.", param="completion_window")
    return int(seconds)


def _check_metadata(metadata: dict[str, str]) -> None:
    """OpenAI's limits. Raises InvalidInput."""
    if len(metadata) > _MAX_METADATA:
        raise InvalidInput(f"metadata may have {_MAX_METADATA} names; it has {len(metadata)}.", param="metadata")
    for name, value in metadata.items():
        if len(name) > _MAX_NAME or len(value) > _MAX_VALUE:
            raise InvalidInput(
                f"metadata: names may have {_MAX_NAME} characters and values {_MAX_VALUE}.", param="metadata"
            )


_SHOWN = (
    "id",
    "endpoint",
    "input_file_id",
    "completion_window",
    "status",
    "output_file_id",
    "error_file_id",
    "created_at",
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "metadata",
)


def batch_object(batch: Batch) -> dict[str, Any]:
    problems = [_problem_object(one) for one in batch.problems]
    return {
        "object": "batch",
        **{name: getattr(batch, name) for name in _SHOWN},
        "errors": {"object": "list", "data": problems} if problems else None,
        "request_counts": {
            "total": batch.num_total,
            "completed": batch.num_completed,
            "failed": batch.num_failed,
        },
    }


def _problem_object(problem: Problem) -> dict[str, Any]:
    return {"code": problem.code, "message": problem.message, "param": problem.param, "line": problem.line}
