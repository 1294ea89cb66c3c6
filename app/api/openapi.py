"""The OpenAPI document: FastAPI's for the routes around the tasks, ours for the task routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from app import __version__
from app.api.errors import speaks_anthropic, speaks_ollama, speaks_open_inference, speaks_openai
from app.api.schemas import AnthropicError, Error, OpenAIError, PlainError
from app.api.token_stream import STREAMED_TASKS
from app.tasks.base import Task
from app.tasks.registry import TASKS

REF = "#/components/schemas/{model}"

STATUS_TEXTS = {
    400: "The body is not JSON, or not UTF-8.",
    401: "No API key, or one that is not valid; only on a server that has keys.",
    403: "The key's scopes, models or tasks do not allow it; the sentence says which.",
    404: "No such model, task or route; the sentence says what there is.",
    405: "The route takes another method.",
    413: "The input or body is over a limit; the sentence names the limit and the actual size.",
    415: "A form, a kind of file, an encoded body that this route does not read; the sentence says what it reads.",
    422: "A field or parameter is wrong; the sentence names it.",
    429: "The queue is full, or a limit of the key is reached: try again after `Retry-After` seconds.",
    500: "The model failed on this request; the request id finds it in the log.",
    501: "This installation lacks a library for it; the sentence names it.",
    503: "Loading and the caller would not wait, or draining (`Retry-After`), or the model cannot start (its reason).",
    504: "The deadline passed.",
}

ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": Error, "description": "An error."}}
OPENAI_ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": OpenAIError, "description": "An error."}}

ANSWER_HEADERS = {
    "x-request-id": ("string", "The request's `X-Request-Id` (or `X-Amzn-Trace-Id`), else a new one."),
    "x-model": ("string", "The id of the model that answered, percent-encoded."),
    "x-queue-time": ("number", "Milliseconds spent waiting, for a load too."),
    "x-prepare-time": ("number", "Milliseconds of tokenizing and the like."),
    "x-forward-time": ("number", "Milliseconds of computing on the device."),
    "x-finish-time": ("number", "Milliseconds from the model's output to the answer."),
    "x-total-time": ("number", "Milliseconds since the request's headers were read."),
    "x-batch-size": ("integer", "Items of the largest batch that this request was computed in."),
    "x-cache": ("string", "`hit`: the answer is an earlier, equal request's. Only where the entry has `cache:`."),
}

DESCRIPTION = """\
Every Hugging Face pipeline behind one server. `POST /v1/<task>` takes `{"inputs": ..., "parameters": {...}}`, one input
or a list. `model` in the body, as `?model=` or at the end of the path chooses among the declared models; without it the
first declared one answers. Tasks for images, sounds and videos take the file itself as the body, base64 or a data URI
in JSON, or a form. Errors are `{"error": "<a sentence>", "error_type": "<a code>"}`; on the routes of OpenAI's
API they have OpenAI's shape.
"""


class Document(NamedTuple):
    """What plain routes add to the document."""

    paths: dict[str, Any]
    schemas: dict[str, Any]


def install_openapi(
    app: FastAPI, *, more: Sequence[Callable[[], Document]] = (), needs_key: Callable[[str], bool] | None = None
) -> None:
    """Replace the app's document, which is built at its first use and kept. more: of routes that FastAPI does not
    know. needs_key: whether a path does, on a server that has keys."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build_openapi(app, [document() for document in more])
            if needs_key is not None:
                _secure(app.openapi_schema, needs_key)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def build_openapi(app: FastAPI, more: Sequence[Document]) -> dict[str, Any]:
    document = get_openapi(
        title="Pipeserve",
        version=__version__,
        description=DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name} for name in ("tasks", "models", "other servers' clients", "server")],
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    task_schemas, definitions = _task_schemas()
    schemas.update(definitions)
    schemas.update(task_schemas)
    document["paths"] = {**_task_paths(), **document["paths"]}
    for part in more:
        schemas.update(part.schemas)
        for path, operations in part.paths.items():
            document["paths"].setdefault(path, {}).update(operations)
    _shape_errors(document)
    return document


def _shape_errors(document: dict[str, Any]) -> None:
    """Errors have the shape of their path's dialect, whoever described its answers."""
    ours = {"$ref": REF.format(model=Error.__name__)}
    for path, operations in document["paths"].items():
        shape = _error_shape(path)
        document["components"]["schemas"].update(_schemas_of(shape))
        contents = [
            answer["content"]["application/json"]
            for operation in operations.values()
            for answer in operation["responses"].values()
            if "application/json" in answer.get("content", {})
        ]
        for content in contents:
            if content.get("schema") == ours:
                content["schema"] = {"$ref": REF.format(model=shape.__name__)}


def _error_shape(path: str) -> type[BaseModel]:
    """As `present` in app/api/errors.py."""
    if speaks_open_inference(path) or speaks_ollama(path):
        return PlainError
    if speaks_anthropic(path):
        return AnthropicError
    return OpenAIError if speaks_openai(path) else Error


def _schemas_of(form: type[BaseModel]) -> dict[str, Any]:
    schema = form.model_json_schema(ref_template=REF)
    return {**schema.pop("$defs", {}), form.__name__: schema}


KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's and Hugging Face's clients send it."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients do."},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As Azure's clients do."},
}


def _secure(document: dict[str, Any], needs_key: Callable[[str], bool]) -> None:
    """Say that an API key is needed, in any of its forms, and where it is not."""
    document["components"]["securitySchemes"] = KEY_SCHEMES
    document["security"] = [{name: []} for name in KEY_SCHEMES]
    for path, operations in document["paths"].items():
        if not needs_key(path):
            for operation in operations.values():
                operation["security"] = []


def pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _task_schemas() -> tuple[dict[str, Any], dict[str, Any]]:
    """Request and answer of each task, and the definitions that they refer to."""
    adapters: list[tuple[tuple[str, str], Any, TypeAdapter[Any]]] = []
    for task in TASKS.values():
        adapters += [
            ((task.name, "input"), "validation", TypeAdapter(task.input_type)),
            ((task.name, "parameters"), "validation", TypeAdapter(task.parameters)),
            ((task.name, "output"), "serialization", TypeAdapter(task.output_type)),
        ]
    parts, defined = TypeAdapter.json_schemas(adapters, ref_template=REF)
    by_part = {key: schema for (key, _), schema in parts.items()}
    definitions: dict[str, Any] = defined.get("$defs", {})
    schemas = {}
    for task in TASKS.values():
        schemas[f"{pascal(task.name)}Request"] = _request_schema(
            task, by_part[task.name, "input"], by_part[task.name, "parameters"], definitions
        )
        schemas[f"{pascal(task.name)}Answer"] = {
            "title": f"{pascal(task.name)}Answer",
            **by_part[task.name, "output"],
        }
    return schemas, definitions


def _request_schema(
    task: Task, one_input: dict[str, Any], parameters: dict[str, Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    fields = definitions[parameters["$ref"].rpartition("/")[2]] if "$ref" in parameters else parameters
    required = ["inputs", "parameters"] if fields.get("required") else ["inputs"]
    properties = {
        "inputs": {"anyOf": [one_input, {"type": "array", "items": one_input, "minItems": 1}]},
        "parameters": parameters,
        "model": {"type": "string", "description": "A declared model. Unset: the first that serves the task."},
        "keep_alive": {
            "anyOf": [{"type": "number"}, {"type": "string"}],
            "description": "How long the model stays loaded after this request: seconds, `500ms`, `20s`, `5m`, `1h`;"
            " 0 unloads it at once, -1 never. Unset: as declared.",
        },
        "options": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "wait_for_model": {"type": "boolean", "description": "false: 503 at once if the model is not loaded."},
                "use_cache": {"type": "boolean", "description": "Accepted; nothing is cached."},
            },
        },
    }
    for name in task.root_parameters:
        properties[name] = fields["properties"][name]
    if task.name in STREAMED_TASKS:
        properties["stream"] = {"type": "boolean", "description": "true: server-sent events, one per token."}
    return {
        "title": f"{pascal(task.name)}Request",
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
        "examples": [task.example.body],
    }


def _task_paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for task in TASKS.values():
        for name in (task.name, *task.aliases):
            paths[f"/v1/{name}"] = {"post": _task_operation(task, name, "", [])}
            paths[f"/v1/{name}/{{model_id}}"] = {"post": _task_operation(task, name, "_of_model", [MODEL_ID])}
    task_name = parameter("task", "path", "A task that the model serves.", enum=list(TASKS))
    paths["/models/{model_id}"] = {"post": _model_operation("run_model", "Run the model's first task.", [MODEL_ID])}
    paths["/models/{model_id}/pipeline/{task}"] = {
        "post": _model_operation("run_model_task", "Run one of the model's tasks.", [MODEL_ID, task_name])
    }
    return paths


def _task_operation(task: Task, name: str, suffix: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    alias = f" An alias of `{task.name}`." if name != task.name else ""
    schema = pascal(task.name)
    return {
        "tags": ["tasks"],
        "summary": task.summary,
        "description": f"{task.summary}{alias}\n\nShares a forward: {task.batching}",
        "operationId": name.replace("-", "_") + suffix,
        "parameters": parameters + call_parameters(with_model=not suffix),
        "requestBody": _request_body(task, {"$ref": REF.format(model=f"{schema}Request")}),
        "responses": {
            "200": _task_answer(task, {"$ref": REF.format(model=f"{schema}Answer")}),
            **error_answers(),
        },
    }


def _model_operation(operation_id: str, summary: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    names = [pascal(name) for name in TASKS]
    first = next(iter(TASKS.values()))
    body = {"anyOf": [{"$ref": REF.format(model=f"{name}Request")} for name in names]}
    answer = {"anyOf": [{"$ref": REF.format(model=f"{name}Answer")} for name in names]}
    return {
        "tags": ["tasks"],
        "summary": summary,
        "operationId": operation_id,
        "parameters": parameters + call_parameters(with_model=False),
        "requestBody": json_body(body, first.example.body),
        "responses": {"200": answer_of(answer, first.example.answer), **error_answers()},
    }


def parameter(name: str, where: str, text: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": text,
        "schema": {"type": "string", **schema},
    }


MODEL_ID = parameter("model_id", "path", "The id or alias of a declared model; it may hold slashes.")


def query_parameter(name: str, text: str) -> dict[str, Any]:
    return parameter(name, "query", text)


def call_parameters(*, with_model: bool) -> list[dict[str, Any]]:
    model = [parameter("model", "query", "The same as `model` in the body.")] if with_model else []
    return [
        *model,
        parameter("keep_alive", "query", "The same as `keep_alive` in the body."),
        parameter("wait", "query", "false: 503 and `Retry-After` at once if the model is not loaded."),
        parameter("Prefer", "header", "`respond-async` is another way of saying `?wait=false`."),
        parameter("X-Request-Timeout", "header", "The deadline from now: seconds, `500ms`, `20s`. It shortens only."),
        parameter("X-Priority", "header", "low, normal or high: at most the key's, which is what it is if unset."),
        parameter("X-Request-Id", "header", "Comes back in the answer and stands in the log."),
    ]


def _request_body(task: Task, schema: dict[str, Any]) -> dict[str, Any]:
    """JSON; for tasks that take media also the file itself, and a form with the file and the parameters."""
    body = json_body(schema, task.example.body)
    if task.media_field is not None:
        binary = {"type": "string", "format": "binary"}
        body["content"]["application/octet-stream"] = {"schema": binary}
        form = {"type": "object", "properties": {"file": binary}, "additionalProperties": {"type": "string"}}
        body["content"]["multipart/form-data"] = {"schema": form}
    return body


def _task_answer(task: Task, schema: dict[str, Any]) -> dict[str, Any]:
    """In every form that `Accept` can ask for."""
    answer = answer_of(schema, task.example.answer)
    binary = {"schema": {"type": "string", "format": "binary"}}
    json_content = answer["content"]["application/json"]
    answer["content"] = {name: json_content if name == "application/json" else binary for name in task.answers}
    return answer


def json_body(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def answer_of(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    headers = {name: {"description": text, "schema": {"type": kind}} for name, (kind, text) in ANSWER_HEADERS.items()}
    return {
        "description": "The answer, in the order of the inputs.",
        "headers": headers,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def body_schemas(bodies: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schemas of types that clients send, by their keys, and the definitions that these refer to."""
    adapters: list[Any] = [(key, "validation", TypeAdapter(body)) for key, body in bodies.items()]
    parts, defined = TypeAdapter.json_schemas(adapters, ref_template=REF)
    return {key: schema for (key, _), schema in parts.items()}, defined.get("$defs", {})


def root_and_below(path: str, operation: Callable[[list[dict[str, Any]], str], dict[str, Any]]) -> dict[str, Any]:
    """The POST of a path at the root and below each model's URL. operation: of parameters and the ending of its id."""
    below = [MODEL_ID, *call_parameters(with_model=False)]
    return {
        f"/{path}": {"post": operation(call_parameters(with_model=True), "")},
        f"/models/{{model_id}}/{path}": {"post": operation(below, "_of_model")},
    }


def plain_operation(
    tag: str,
    operation_id: str,
    summary: str,
    *,
    parameters: Sequence[Any] = (),
    body: dict[str, Any] | None = None,
    streams: str | None = None,
) -> dict[str, Any]:
    """Of a route of another server's, whose answer has that server's shape. streams: the media type of its stream."""
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if streams is not None:
        content[streams] = {"schema": {"description": "One event after the other."}}
    return {
        "tags": [tag],
        "summary": summary,
        "operationId": operation_id,
        "parameters": list(parameters),
        **({} if body is None else {"requestBody": body}),
        "responses": {"200": {"description": "The answer.", "content": content}, **error_answers()},
    }


def plain_posts(
    tag: str, path: str, operation_id: str, summary: str, *, body: dict[str, Any], streams: str | None = None
) -> dict[str, Any]:
    """`root_and_below` of plain operations."""

    def operation(parameters: list[dict[str, Any]], suffix: str) -> dict[str, Any]:
        name = operation_id + suffix
        return plain_operation(tag, name, summary, parameters=parameters, body=body, streams=streams)

    return root_and_below(path, operation)


def error_answers() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REF.format(model="Error")}}}
    return {str(status): {"description": text, "content": content} for status, text in STATUS_TEXTS.items()}
