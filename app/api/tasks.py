"""The task routes: `/v1/<task>`, `/v1/<task>/<model>`, `/models/<model>` and `/models/<model>/pipeline/<task>`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.body import parse_json, read_body
from app.api.call import Call, read_call, read_keep_alive
from app.api.disconnect import until_disconnect
from app.api.names import DeclaredNames, named
from app.api.record import RequestRecord, record_of
from app.catalog import ModelSpec
from app.errors import DeadlineExceeded, InvalidInput, ModelFailed, ModelLoading, NotServed
from app.fleet.requests import FleetAPI, JobRequest, JobResult
from app.tasks.base import Task
from app.tasks.registry import ALIASES, TASKS, find_task
from app.tasks.requests import ParsedRequest, RequestParser
from app.telemetry import TASK_ROUTES


class TaskAnswerer:
    """Answers one request for one task. Owned by the event loop; holds every task's validators, built once."""

    def __init__(self, fleet: FleetAPI, *, max_body_bytes: int, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._parsers = {task.name: RequestParser(task) for task in TASKS.values()}

    async def answer(self, task: Task, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`, which the app's handlers answer."""
        record = record_of(scope)
        record.task = task.name
        call = read_call(scope["query_string"], record.headers)
        raw = await read_body(receive, record.headers, max_bytes=self._max_body_bytes)
        body = parse_json(raw, record.headers)
        spec = self._choose(task, path_model, call, body)
        record.model = spec.id
        parsed = self._parsers[task.name].parse(body, defaults=spec.parameters)
        job = _job(task, spec, parsed, call, record)
        result = await until_disconnect(receive, self._fleet.submit(job))
        record.result = result
        answer = task.assemble(result.outputs, is_list=parsed.is_list)
        await _send_answer(send, answer, result, spec, total_s=self._clock() - record.began_at)

    def _choose(self, task: Task, path_model: str | None, call: Call, body: Any) -> ModelSpec:
        """The entry that path, query and body agree on, else the task's first. Raises NotServed, InvalidInput."""
        in_body = body.get("model") if isinstance(body, dict) else None
        given = (path_model, call.model, in_body if isinstance(in_body, str) else None)
        names = [name for name in map(named, given) if name is not None]
        spec = self._fleet.find(task.name, names[0] if names else None)
        for other in names[1:]:
            if other != names[0] and self._fleet.find(task.name, other).id != spec.id:
                raise InvalidInput(f'model: "{names[0]}" and "{other}" are both asked for.', param="model")
        return spec


def _job(task: Task, spec: ModelSpec, parsed: ParsedRequest, call: Call, record: RequestRecord) -> JobRequest:
    in_body = read_keep_alive(parsed.keep_alive)
    waits = call.wait_for_load if call.wait_for_load is not None else parsed.wait_for_model
    deadline_s = call.deadline_s
    return JobRequest(
        model_id=spec.id,
        task=task.name,
        inputs=parsed.inputs,
        parameters=parsed.parameters,
        num_items=parsed.num_items,
        request_id=record.request_id,
        deadline_s=None if deadline_s is None else min(deadline_s, spec.queue.deadline_s),
        keep_alive_s=in_body if in_body is not None else call.keep_alive_s,
        wait_for_load=waits is not False,
    )


async def _send_answer(send: Send, body: bytes, result: JobResult, spec: ModelSpec, *, total_s: float) -> None:
    """Times are in milliseconds. x-total-time: since the request's headers were read."""
    timings = result.timings
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-model", quote(spec.id, safe="/:@+,;=~!$&'()*").encode()),
        (b"x-queue-time", b"%.3f" % (timings.queue_s * 1000)),
        (b"x-prepare-time", b"%.3f" % (timings.prepare_s * 1000)),
        (b"x-forward-time", b"%.3f" % (timings.forward_s * 1000)),
        (b"x-finish-time", b"%.3f" % (timings.finish_s * 1000)),
        (b"x-total-time", b"%.3f" % (total_s * 1000)),
        (b"x-batch-size", b"%d" % result.batch_size),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class TaskEndpoint:
    """`/v1/<task>` and `/v1/<task>/<model>`: an ASGI app for one task."""

    def __init__(self, answerer: TaskAnswerer, task: Task) -> None:
        self._answerer = answerer
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).route = TASK_ROUTES[0]
        model = scope["path_params"].get("model_id", "").strip("/")
        await self._answerer.answer(self._task, model or None, scope, receive, send)


class ModelEndpoint:
    """`/models/<model>`, answered by the entry's first task, and `/models/<model>/pipeline/<task>`."""

    def __init__(self, answerer: TaskAnswerer, fleet: FleetAPI, names: DeclaredNames) -> None:
        self._answerer = answerer
        self._fleet = fleet
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        record.route = TASK_ROUTES[1]
        model_id, rest = self._names.split(scope["path_params"]["path"])
        record.model = model_id
        task = await self._task(model_id, rest, record, scope["query_string"])
        await self._answerer.answer(task, model_id, scope, receive, send)

    async def _task(self, model_id: str, rest: str, record: RequestRecord, query_string: bytes) -> Task:
        if rest:
            kind, _, name = rest.partition("/")
            if kind != "pipeline" or not name:
                raise NotServed(f'The model "{model_id}" has no "/{rest}"; there is "/pipeline/<task>".')
            return find_task(name)
        if not self._fleet.status(model_id).spec.tasks:
            await self._resolve(model_id, read_call(query_string, record.headers))
        return find_task(self._first_task(model_id))

    async def _resolve(self, model_id: str, call: Call) -> None:
        """A Hub model's task may not be known before its files are there."""
        if call.wait_for_load is False:
            raise ModelLoading(f'The task of "{model_id}" is not known before its files are there.')
        queue = self._fleet.status(model_id).spec.queue
        try:
            async with asyncio.timeout(min(call.deadline_s or queue.deadline_s, queue.deadline_s)):
                async for _ in self._fleet.load(model_id):
                    pass
        except TimeoutError:
            raise DeadlineExceeded(f'"{model_id}" was still loading at the request\'s deadline.') from None

    def _first_task(self, model_id: str) -> str:
        status = self._fleet.status(model_id)
        if not status.spec.tasks:
            raise ModelFailed(status.reason or f'The task of "{model_id}" is not known; declare `task:` for it.')
        return status.spec.tasks[0]


def task_routes(answerer: TaskAnswerer, fleet: FleetAPI, names: DeclaredNames) -> list[BaseRoute]:
    """Plain ASGI routes: validation, answers and documentation are ours, not FastAPI's."""
    routes: list[BaseRoute] = []
    for name in (*TASKS, *ALIASES):
        endpoint = TaskEndpoint(answerer, find_task(name))
        routes.append(_post(f"/v1/{name}", endpoint))
        routes.append(_post(f"/v1/{name}/{{model_id:path}}", endpoint))
    routes.append(_post("/models/{path:path}", ModelEndpoint(answerer, fleet, names)))
    return routes


def _post(path: str, endpoint: ASGIApp) -> Route:
    return Route(path, endpoint, methods=["POST"])
