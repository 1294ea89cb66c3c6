"""The task routes: `/v1/<task>`, `/v1/<task>/<model>`, `/models/<model>` and `/models/<model>/pipeline/<task>`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.keys import INFER
from app.api.accept import preferred
from app.api.body import parse_body, parse_object, read_body
from app.api.call import Call, read_call, read_keep_alive
from app.api.disconnect import until_disconnect
from app.api.large import in_thread_if_large
from app.api.names import agreed, split_name
from app.api.npy import NPY, join_npy
from app.api.record import RequestRecord, record_of
from app.api.routing import Served
from app.api.token_stream import STREAMED_TASKS, read_stream, stream_tokens, streaming_parameters, token_events
from app.catalog import AdapterSpec, ModelSpec
from app.errors import (
    DeadlineExceeded,
    InputTooLarge,
    InvalidInput,
    MalformedBody,
    ModelFailed,
    ModelLoading,
    NotServed,
)
from app.fleet.journal import NOBODYS
from app.fleet.requests import JobRequest, JobResult, ModelsAPI
from app.tasks.base import JSON, Task
from app.tasks.completion import Delta
from app.tasks.custom import NAME as CUSTOM
from app.tasks.media import RemoteMedia, remote_places, with_files
from app.tasks.registry import ALIASES, ALL_TASKS, TASKS, find_task
from app.tasks.requests import ParsedRequest, RequestParser
from app.tasks.text_generation import ADAPTER_ID
from app.telemetry import TASK_ROUTES


class FetchFile(Protocol):
    """Gets the file of a URL, or says in an InvalidInput why not: `app/media/remote.py`."""

    async def __call__(self, url: str, *, param: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """fragments: one per input, of `media_type`."""

    fragments: list[bytes]
    is_list: bool
    media_type: str
    result: JobResult


class TaskAnswerer:
    """Answers requests for tasks, whatever the route. Owned by the event loop; holds every task's validators, built
    once."""

    def __init__(
        self, *, max_body_bytes: int, max_inputs: int, fetch_file: FetchFile, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self.max_inputs = max_inputs
        self._fetch_file = fetch_file
        self._parsers = {task.name: RequestParser(task, max_inputs=max_inputs) for task in ALL_TASKS.values()}

    async def answer(self, task: Task, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of a task's own route. Raises the errors of `app/errors.py`, which the app's handlers answer."""
        record = record_of(scope)
        record.task = task.name
        call = read_call(scope["query_string"], record.headers)
        raw = await self.read(receive, record)
        body = await parse_body(raw, record.headers, task)
        spec = self.choose(task, record, path_model, call.model, _model_in(body))
        if not spec.is_resolved and spec.trust_remote_code:
            spec = await resolved(record.fleet, spec.name, call)
        if spec.has_handler:
            await self.answer_by_handler(spec, task, raw, scope, receive, send)
            return
        if task.name in STREAMED_TASKS and isinstance(body, dict) and "stream" in body:
            body = dict(body)
            if read_stream(body.pop("stream")):
                await self.stream(task, spec, body, call, scope, receive, send)
                return
        answered = await self.run(task, spec, body, call, record, receive, accept=_accept_of(record))
        told = joined(task, answered, record)
        await self.send(send, told, answered.result, spec, record, media_type=answered.media_type)

    async def read(self, receive: Receive, record: RequestRecord) -> bytes:
        """The request's body, under the server's limit."""
        raw = await read_body(receive, record.headers, max_bytes=self._max_body_bytes)
        record.num_body_bytes = len(raw)
        return raw

    async def read_object(self, receive: Receive, record: RequestRecord) -> dict[str, Any]:
        """The body of a request that must be a JSON object. Raises as `read` and `parse_object`."""
        return await parse_object(await self.read(receive, record), record.headers)

    def choose(self, task: Task, record: RequestRecord, *given: str | None) -> ModelSpec:
        """The entry that path, query and body agree on, else the task's first. Raises NotServed, InvalidInput."""
        return record.fleet.find(task.name, agreed(record.fleet.get, given))

    async def run(
        self,
        task: Task,
        spec: ModelSpec,
        body: Any,
        call: Call,
        record: RequestRecord,
        receive: Receive,
        *,
        accept: str = JSON,
    ) -> Answered:
        """Compute one body of the task; the client's leaving ends the work. accept: the client's `Accept`."""
        job, parsed = await self.job_of(task, spec, body, call, record, receive, accept=accept)
        result = await until_disconnect(receive, record.fleet.submit(job))
        record.result = result
        return Answered(fragments=result.outputs, is_list=parsed.is_list, media_type=job.media_type, result=result)

    async def job_of(
        self,
        task: Task,
        spec: ModelSpec,
        body: Any,
        call: Call,
        record: RequestRecord,
        receive: Receive,
        *,
        accept: str = JSON,
    ) -> tuple[JobRequest, ParsedRequest]:
        """One body of the task, validated, with its files, which are fetched only for one who may compute."""
        record.caller.demand(INFER)
        record.task = task.name
        record.model = spec.id
        if spec.has_handler:
            raise NotServed(f'"{spec.id}" has a handler of its own, which answers at /models/{spec.id} alone.')
        parser = self._parsers[task.name]
        parsed = await in_thread_if_large(record.num_body_bytes, lambda: parser.parse(body, defaults=spec.parameters))
        media_type = _media_type(task, parsed, accept)
        inputs = parsed.inputs
        if places := remote_places(inputs):
            inputs = await until_disconnect(receive, self._with_files(inputs, places, record))
        adapter = spec.chosen_adapter(parsed.parameters.pop(ADAPTER_ID, None))
        record.adapter = None if adapter is None else adapter.id
        return _job(task, spec, parsed, inputs, media_type, call, record, adapter), parsed

    async def answer_by_handler(
        self, spec: ModelSpec, task: Task, raw: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A request to an entry with a handler of its own: the whole body goes in (a file as `inputs`), the handler's
        answer comes out. task: the name under which it is counted."""
        record = record_of(scope)
        record.task, record.model = task.name, spec.id
        body = await parse_body(raw, record.headers, ALL_TASKS[CUSTOM])
        if not isinstance(body, dict):
            raise MalformedBody('The body must be a JSON object such as {"inputs": ...}, or a file.')
        parsed = ParsedRequest(inputs=[body], is_list=False, parameters={}, num_items=1)
        call = read_call(scope["query_string"], record.headers)
        job = _job(task, spec, parsed, parsed.inputs, JSON, call, record)
        record.result = result = await until_disconnect(receive, record.fleet.submit(job))
        await self.send(send, result.outputs[0], result, spec, record)

    async def _with_files(
        self, inputs: list[Any], places: list[tuple[str, RemoteMedia]], record: RequestRecord
    ) -> list[Any]:
        """The inputs with their URLs replaced by files, which together may be as large as a body."""
        urls = {remote.url: place for place, remote in places}
        if len(urls) > MAX_URLS:
            raise InvalidInput(f"inputs holds {len(urls)} URLs; the limit is {MAX_URLS}.", param="inputs")
        files: dict[str, bytes] = {}
        turns = asyncio.Semaphore(MAX_FETCHES)

        async def fetch(url: str, place: str) -> None:
            async with turns:
                if record.trace is None:
                    files[url] = await self._fetch_file(url, param=place)
                else:
                    with record.trace.fetching(url) as headers:
                        files[url] = await self._fetch_file(url, param=place, headers=headers)
            num_bytes = sum(map(len, files.values()))
            if num_bytes > self._max_body_bytes:
                raise InputTooLarge(
                    f"inputs: the files of its URLs have {num_bytes:,} bytes; the limit is {self._max_body_bytes:,}.",
                    param="inputs",
                )

        try:
            async with asyncio.TaskGroup() as group:
                for url, place in urls.items():
                    group.create_task(fetch(url, place))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [with_files(one, files) for one in inputs]

    async def stream(
        self,
        task: Task,
        spec: ModelSpec,
        body: dict[str, Any],
        call: Call,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Generate a text and answer its tokens as server-sent events. task: of STREAMED_TASKS. body: the task's.
        Raises as `run`."""
        record, parameters = record_of(scope), body.get("parameters") or {}
        body = {**body, "parameters": streaming_parameters(parameters, spec.parameters)}
        has_details = parameters.get("details") is True
        if not task.is_single(body.get("inputs"), parameters):
            raise InvalidInput("inputs: a stream is the answer to one text.", param="inputs")

        async def parts() -> AsyncGenerator[Delta | JobResult, None]:
            job, _ = await self.job_of(task, spec, body, call, record, receive)
            async for part in record.fleet.stream(job):
                if isinstance(part, JobResult):
                    record.result = part
                yield part

        events = token_events(parts(), has_details=has_details)
        streaming = stream_tokens(events, record)
        await send_stream(streaming, spec, scope, receive, send)

    async def send(
        self,
        send: Send,
        body: bytes,
        result: JobResult,
        spec: ModelSpec,
        record: RequestRecord,
        *,
        media_type: str = JSON,
        more_headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """A whole answer with the headers of every answer. Times are in milliseconds."""
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            *answer_headers(result, spec, record, total_s=self._clock() - record.began_at),
            *more_headers,
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


MAX_URLS = 32
MAX_FETCHES = 4
"""Of one request, at a time."""
MODELS = "/models/"


def _model_in(body: Any) -> str | None:
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else None


def _accept_of(record: RequestRecord) -> str:
    return record.headers.get(b"accept", b"").decode("latin-1")


def _media_type(task: Task, parsed: ParsedRequest, accept: str) -> str:
    """A file is one answer: several inputs are answered as JSON unless a file was asked for by its name."""
    media_type, is_named = preferred(accept, task.answers)
    if media_type in (JSON, NPY) or len(parsed.inputs) == 1:
        return media_type
    if is_named:
        raise InvalidInput(f"{media_type} holds the answer to one input; send them one by one.", param="Accept")
    return JSON


def joined(task: Task, answered: Answered, record: RequestRecord) -> bytes:
    """The fragments as one answer."""
    if answered.media_type == NPY:
        return join_npy(answered.fragments)
    if answered.media_type != JSON:
        return answered.fragments[0]
    assemble = task.assemble
    if task.assemble_for_javascript is not None and b"@huggingface/inference" in record.headers.get(b"user-agent", b""):
        assemble = task.assemble_for_javascript
    return assemble(answered.fragments, is_list=answered.is_list)


def _job(
    task: Task,
    spec: ModelSpec,
    parsed: ParsedRequest,
    inputs: list[Any],
    media_type: str,
    call: Call,
    record: RequestRecord,
    adapter: AdapterSpec | None = None,
) -> JobRequest:
    in_body = read_keep_alive(parsed.keep_alive)
    name = spec.id if adapter is None else f"{spec.id}:{adapter.id}"
    journal = NOBODYS if record.trace is None else record.trace.journal(task.name, name, inputs, parsed.parameters)
    waits = call.wait_for_load if call.wait_for_load is not None else parsed.wait_for_model
    deadline_s = call.deadline_s
    return JobRequest(
        model_id=spec.id,
        task=task.name,
        inputs=inputs,
        parameters=parsed.parameters,
        num_items=parsed.num_items,
        request_id=record.request_id,
        media_type=media_type,
        deadline_s=None if deadline_s is None else min(deadline_s, spec.queue.deadline_s),
        keep_alive_s=in_body if in_body is not None else call.keep_alive_s,
        wait_for_load=waits is not False,
        adapter=adapter,
        client=record.caller.name,
        priority=record.caller.priority_of(call.priority),
        weight=record.caller.weight,
        journal=journal,
    )


def answer_headers(
    result: JobResult, spec: ModelSpec, record: RequestRecord, *, total_s: float
) -> list[tuple[bytes, bytes]]:
    """Which model answered, and where the time went, in milliseconds. total_s: since the headers were read."""
    timings = result.timings
    return [
        (b"x-model", model_header(spec, record)),
        (b"x-queue-time", b"%.3f" % (timings.queue_s * 1000)),
        (b"x-prepare-time", b"%.3f" % (timings.prepare_s * 1000)),
        (b"x-forward-time", b"%.3f" % (timings.forward_s * 1000)),
        (b"x-finish-time", b"%.3f" % (timings.finish_s * 1000)),
        (b"x-total-time", b"%.3f" % (total_s * 1000)),
        (b"x-batch-size", b"%d" % result.batch_size),
        *([(b"x-cache", b"hit")] if result.is_kept else []),
    ]


async def send_stream(
    streaming: Awaitable[StreamingResponse],
    spec: ModelSpec,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    more_headers: Mapping[str, str] | None = None,
) -> None:
    """streaming: the response, when there is a first part of it. Until then the client's leaving ends the work;
    afterwards the response sees to that."""
    response = await until_disconnect(receive, streaming)
    response.headers["x-model"] = model_header(spec, record_of(scope)).decode()
    response.headers.update(more_headers or {})
    await response(scope, receive, send)


def model_header(spec: ModelSpec, record: RequestRecord) -> bytes:
    name = spec.id if record.adapter is None else f"{spec.id}:{record.adapter}"
    return quote(name, safe="/:@+,;=~!$&'()*").encode()


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
    """`/models/<model>`, answered by the entry's first task, `/models/<model>/pipeline/<task>`, and other servers'
    routes below the model's URL."""

    def __init__(self, answerer: TaskAnswerer, below: Sequence[Served]) -> None:
        self._answerer = answerer
        self._below = below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        record.route = TASK_ROUTES[1]
        model_id, rest = split_name(record.fleet, scope["path"].removeprefix(MODELS))
        record.model = record.fleet.get(model_id).id
        for others in self._below:
            if rest and rest in others.paths:
                await others.answer(rest, model_id, scope, receive, send)
                return
        if rest:
            await self._answerer.answer(_pipeline(model_id, rest), model_id, scope, receive, send)
            return
        spec = await resolved(record.fleet, model_id, read_call(scope["query_string"], record.headers))
        if spec.has_handler:
            raw = await self._answerer.read(receive, record)
            await self._answerer.answer_by_handler(spec, ALL_TASKS[spec.tasks[0]], raw, scope, receive, send)
            return
        await self._answerer.answer(find_task(spec.tasks[0]), model_id, scope, receive, send)


def _pipeline(model_id: str, rest: str) -> Task:
    """The task of `pipeline/<task>`. Raises NotServed."""
    kind, _, name = rest.partition("/")
    if kind != "pipeline" or not name:
        raise NotServed(f'The model "{model_id}" has no "/{rest}"; there is "/pipeline/<task>".')
    return find_task(name)


async def resolved(fleet: ModelsAPI, name: str, call: Call) -> ModelSpec:
    """The entry with its tasks, and whether a handler serves it: a Hub model's may not be known before its files are
    there. Raises NotServed, ModelLoading, ModelFailed, DeadlineExceeded."""
    spec = fleet.get(name)
    if spec.is_resolved:
        return spec
    if call.wait_for_load is False:
        raise ModelLoading(f'The task of "{name}" is not known before its files are there.')
    deadline_s = spec.queue.deadline_s
    try:
        async with asyncio.timeout(min(call.deadline_s or deadline_s, deadline_s)):
            async for _ in fleet.load(spec.id):
                pass
    except TimeoutError:
        raise DeadlineExceeded(f'"{name}" was still loading at the request\'s deadline.') from None
    status = fleet.status(name)
    if not status.spec.tasks:
        raise ModelFailed(status.reason or f'The task of "{name}" is not known; declare `task:` for it.')
    return status.spec


def task_routes(answerer: TaskAnswerer, below: Sequence[Served], *, apart: Collection[str] = ()) -> list[BaseRoute]:
    """Plain ASGI routes: validation, answers and documentation are ours, not FastAPI's. apart: those of the paths below
    that look like another route's, so that `methods_at` has to find one of their own."""
    routes: list[BaseRoute] = []
    for name in (*TASKS, *ALIASES):
        endpoint = TaskEndpoint(answerer, find_task(name))
        routes.append(_post(f"/v1/{name}", endpoint))
        routes.append(_post(f"/v1/{name}/{{model_id:path}}", endpoint))
    model_endpoint = ModelEndpoint(answerer, below)
    routes.append(_post(f"{MODELS}{{path:path}}", model_endpoint))
    routes += [_post(f"{MODELS}{{path:path}}/{path}", model_endpoint) for path in apart]
    return routes


def _post(path: str, endpoint: ASGIApp) -> Route:
    return Route(path, endpoint, methods=["POST"])
