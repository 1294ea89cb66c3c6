"""The routes below `/v2`: the protocol's own, and Triton's model repository extension.

A model has one version. One that is loaded from the start (`preload`) is ready when that is done; any other is ready
from the start, since its first request loads it, which a gateway that waits for it would never let through. Whether it
is loaded is in the repository's index.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import orjson
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from app import __version__
from app.api.body import parse_json
from app.api.call import Call, read_call
from app.api.large import in_thread_if_large
from app.api.names import split_name
from app.api.open_inference.mapping import TaskTensors
from app.api.open_inference.messages import HEADER_LENGTH, InferAnswer, InferRequest, read_request, write_answer
from app.api.record import record_of
from app.api.tasks import TaskAnswerer, resolved
from app.catalog import ModelSpec
from app.errors import Draining, InvalidInput, MalformedBody, ModelFailed, ModelLoading, NotServed
from app.fleet.requests import ModelsAPI, ModelStatus
from app.tasks.registry import ALIASES, TASKS, find_task

MODELS = "/v2/models/"
VERSION = "1"
EXTENSIONS = ("binary_tensor_data", "model_repository", "model_repository(unload_dependents)", "parameters")
STATES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ready": ("READY", ""),
        "loading": ("LOADING", ""),
        "unloading": ("UNLOADING", ""),
        "unloaded": ("UNAVAILABLE", "unloaded"),
        "unresolved": ("UNAVAILABLE", "unloaded"),
        "failed": ("UNAVAILABLE", "failed"),
    }
)
"""Triton's words for a model's state, with the reason why it is unavailable."""
_ON_THE_WAY = ("unresolved", "loading")
"""Of a model with `preload`. Once it was unloaded (`keep_alive`, others that needed its memory) the next request loads
it, as any other."""
_RETRY_S = 1.0
_HARMLESS = ("priority",)
_SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")


class OpenInference:
    """Owned by the event loop. Raises the errors of `app/errors.py`, which the app's handlers answer."""

    def __init__(self, answerer: TaskAnswerer) -> None:
        self._answerer = answerer
        self._tensors: dict[str, TaskTensors] = {}

    async def server(self, scope: Scope, receive: Receive, send: Send) -> None:
        metadata = {"name": "pipeserve", "version": __version__, "extensions": EXTENSIONS}
        await _json(metadata)(scope, receive, send)

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _json({"live": True})(scope, receive, send)

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        _check_accepting(record_of(scope).fleet)
        await _json({"ready": True})(scope, receive, send)

    async def model(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What stands behind a model's id: nothing (its metadata), `ready` or `infer`."""
        record = record_of(scope)
        fleet = record.fleet
        model_id, rest = split_name(fleet, scope["path"].removeprefix(MODELS))
        action = _without_version(model_id, rest)
        if action not in ("", "ready", "infer") or (action == "infer") != (scope["method"] == "POST"):
            raise NotServed(f'The model "{model_id}" has no "/{rest}"; there are /ready and /infer.')
        record.route = "/v2/models/{model}" + (f"/{action}" if action else "")
        record.model = fleet.get(model_id).id
        if action == "infer":
            await self._infer(model_id, scope, receive, send)
        elif action == "ready":
            await _json(_readiness(fleet, model_id))(scope, receive, send)
        else:
            await _json(self._metadata(fleet.get(model_id)))(scope, receive, send)

    def _metadata(self, spec: ModelSpec) -> dict[str, Any]:
        """Its first task's tensors; none are named while its task is not known, and of a handler that takes none."""
        tensors = self._tensors_of(spec.tasks[0]) if spec.tasks and not spec.has_handler else None
        return {
            "name": spec.name,
            "versions": [VERSION],
            "platform": f"transformers_{spec.backend}",
            "inputs": [] if tensors is None else tensors.inputs(),
            "outputs": [] if tensors is None else tensors.outputs(),
        }

    def _tensors_of(self, task: str) -> TaskTensors:
        if task not in self._tensors:
            self._tensors[task] = TaskTensors(find_task(task), max_inputs=self._answerer.max_inputs)
        return self._tensors[task]

    # Inference

    async def _infer(self, model_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        raw = await self._answerer.read(receive, record)
        request = await in_thread_if_large(len(raw), lambda: read_request(raw, record.headers))
        spec = await resolved(record.fleet, model_id, call)
        if spec.has_handler:
            raise NotServed(f'"{spec.id}" has a handler of its own, which takes no tensors; it answers at /models.')
        asked = _Asked(request, spec, call)
        tensors = self._tensors_of(asked.task)
        tensors.check_outputs(request.outputs)
        body = await in_thread_if_large(len(raw), lambda: tensors.body(request.inputs, asked.parameters))
        task = find_task(asked.task)
        body |= asked.body_fields
        answered = await self._answerer.run(task, spec, body, asked.call, record, receive, accept=tensors.accept)

        def write() -> InferAnswer:
            outputs = tensors.answer(answered.fragments, request.outputs)
            return write_answer(request, spec.name, VERSION, outputs)

        answer = await in_thread_if_large(sum(map(len, answered.fragments)), write)
        media_type, headers = "application/json", []
        if answer.header_length is not None:
            media_type = "application/octet-stream"
            headers.append((HEADER_LENGTH, b"%d" % answer.header_length))
        await self._answerer.send(
            send, answer.body, answered.result, spec, record, media_type=media_type, more_headers=headers
        )

    # Triton's model repository

    async def index(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every declared model with its state; `{"ready": true}` asks for those that are loaded."""
        body = await self._object(scope, receive, ("ready",))
        only_ready = body.get("ready", False)
        if not isinstance(only_ready, bool):
            raise InvalidInput("ready must be true or false.", param="ready")
        statuses = record_of(scope).fleet.statuses(("ready",) if only_ready else None)
        await _json([_entry(status) for status in statuses])(scope, receive, send)

    async def repository(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`load` and `unload`, which answer when it is done."""
        record = record_of(scope)
        record.demand_admin()
        fleet = record.fleet
        model_id, action = split_name(fleet, scope["path_params"]["path"])
        if action not in ("load", "unload"):
            raise NotServed(f'The model "{model_id}" has no "/{action}" here; there are /load and /unload.')
        record.route, record.model = f"/v2/repository/models/{{model}}/{action}", fleet.get(model_id).id
        parameters = (await self._object(scope, receive, ("parameters",))).get("parameters", {})
        _check_repository_parameters(parameters, action)
        if action == "load":
            async for _ in fleet.load(model_id):
                pass
        else:
            await fleet.unload(model_id)
        await _json(_entry(fleet.status(model_id)))(scope, receive, send)

    async def _object(self, scope: Scope, receive: Receive, fields: tuple[str, ...]) -> dict[str, Any]:
        """The body, which may be empty. Raises MalformedBody, InvalidInput."""
        record = record_of(scope)
        raw = await self._answerer.read(receive, record)
        body = parse_json(raw, {}) if raw.strip() else {}
        if not isinstance(body, dict):
            raise MalformedBody("The body must be a JSON object, or empty.")
        for field in body:
            if field not in fields:
                raise InvalidInput(f"{field}: no such field; there is {', '.join(fields)}.", param=field)
        return body


def _check_accepting(fleet: ModelsAPI) -> None:
    if not fleet.is_accepting:
        raise Draining("The server is shutting down and takes no new requests.")


def _readiness(fleet: ModelsAPI, model_id: str) -> dict[str, Any]:
    _check_accepting(fleet)
    status = fleet.status(model_id)
    if status.state == "failed":
        raise ModelFailed(status.reason or f'"{model_id}" cannot start.')
    if status.spec.preload and status.state in _ON_THE_WAY:
        raise ModelLoading(f'"{model_id}" is loading.', retry_after_s=_RETRY_S)
    return {"name": model_id, "ready": True}


class _Asked:
    """What the request's parameters say: the protocol's own, and the task's."""

    def __init__(self, request: InferRequest, spec: ModelSpec, call: Call) -> None:
        parameters = dict(request.parameters)
        for name in _SEQUENCES:
            if name in parameters:
                raise InvalidInput(f"parameters.{name}: no model here keeps a sequence.", param=f"parameters.{name}")
        for name in _HARMLESS:
            parameters.pop(name, None)
        self.task = spec.tasks[0]
        if _names_task(parameters.get("task"), self.task):
            self.task = _task(parameters.pop("task"), spec)
        self.call = _with_timeout(call, parameters.pop("timeout", None))
        self.body_fields = {name: parameters.pop(name) for name in ("keep_alive",) if name in parameters}
        self.parameters = parameters


def _names_task(given: Any, first: str) -> bool:
    """Speech recognition has a parameter of that name, with values of its own."""
    named = isinstance(given, str) and (given in TASKS or given in ALIASES)
    return given is not None and (named or "task" not in TASKS[first].parameters.model_fields)


def _task(given: Any, spec: ModelSpec) -> str:
    """One of the model's tasks. Raises InvalidInput, NotServed."""
    if not isinstance(given, str):
        raise InvalidInput("parameters.task must be text.", param="parameters.task")
    task = find_task(given).name
    if task not in spec.all_tasks:
        served = ", ".join(name for name in spec.all_tasks if name in TASKS)
        raise NotServed(f'"{spec.id}" does not serve {task}; it serves {served}.', param="parameters.task")
    return task


def _with_timeout(call: Call, timeout: Any) -> Call:
    """timeout: microseconds from now. It shortens only."""
    if timeout is None:
        return call
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout <= 0:
        raise InvalidInput("parameters.timeout must be a number of microseconds.", param="parameters.timeout")
    seconds = timeout / 1e6
    return replace(call, deadline_s=seconds if call.deadline_s is None else min(seconds, call.deadline_s))


def _check_repository_parameters(parameters: Any, action: str) -> None:
    if not isinstance(parameters, dict):
        raise InvalidInput("parameters must be an object.", param="parameters")
    for name, value in parameters.items():
        if action == "load":
            raise InvalidInput(
                f"parameters.{name[:64]}: a model is loaded as models.yaml declares it.", param=f"parameters.{name}"
            )
        if name != "unload_dependents" or not isinstance(value, bool):
            raise InvalidInput(
                f"parameters.{name[:64]}: there is unload_dependents, true or false (harmless: no model depends on"
                " another).",
                param=f"parameters.{name}",
            )


def _entry(status: ModelStatus) -> dict[str, str]:
    state, reason = STATES[status.state]
    return {"name": status.spec.id, "version": VERSION, "state": state, "reason": status.reason or reason}


def _without_version(model_id: str, rest: str) -> str:
    """What follows the model's id and, where it is given, its version. Raises NotServed."""
    parts = rest.split("/")
    if parts[0] != "versions" or len(parts) == 1:
        return rest
    if parts[1] != VERSION:
        raise NotServed(f'The model "{model_id}" has one version, {VERSION}.', param="version")
    return "/".join(parts[2:])


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Endpoint:
    """An ASGI app (starlette takes a function for one that gets a request)."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope, receive, send)


def open_inference_routes(open_inference: OpenInference) -> list[BaseRoute]:
    answers: list[tuple[str, Answer, list[str]]] = [
        ("/v2", open_inference.server, ["GET"]),
        ("/v2/health/live", open_inference.live, ["GET"]),
        ("/v2/health/ready", open_inference.ready, ["GET"]),
        (f"{MODELS}{{path:path}}", open_inference.model, ["GET"]),
        (f"{MODELS}{{path:path}}/infer", open_inference.model, ["POST"]),
        (f"{MODELS}{{path:path}}/infer/", open_inference.model, ["POST"]),
        ("/v2/repository/index", open_inference.index, ["POST"]),
        ("/v2/repository/models/{path:path}", open_inference.repository, ["POST"]),
    ]
    return [Route(path, _Endpoint(answer), methods=methods) for path, answer, methods in answers]
