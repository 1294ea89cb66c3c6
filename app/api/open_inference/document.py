"""The Open Inference Protocol's routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from app import __version__
from app.api.open_inference.endpoint import EXTENSIONS, VERSION
from app.api.open_inference.messages import HEADER_LENGTH, InferBody
from app.api.openapi import REF, Document, call_parameters, error_answers, json_body, parameter

TAG = "other servers' clients"
_HEADER_LENGTH = HEADER_LENGTH.decode()


class AnswerTensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = Field(default=None, description="Flat, row-major; unset where it is binary data.")
    parameters: dict[str, Any] | None = Field(default=None, description="`binary_data_size` of binary data.")


class InferAnswerBody(BaseModel):
    """The JSON of an inference answer."""

    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[AnswerTensor]


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1: as many as are sent, or as the model makes.")


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class IndexEntry(BaseModel):
    """A model of the repository, loaded or not."""

    name: str
    version: str
    state: str = Field(description="READY, LOADING, UNLOADING or UNAVAILABLE.")
    reason: str


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool
    name: str | None = Field(default=None, description="The model that was asked for.")


_TENSOR = {"name": "outputs", "datatype": "BYTES", "shape": [1], "data": ['[{"label":"POSITIVE","score":0.99}]']}
_REQUEST = {"inputs": [{"name": "inputs", "datatype": "BYTES", "shape": [1], "data": ["A film for a rainy evening."]}]}
_ANSWER = {"model_name": "reviews", "model_version": VERSION, "outputs": [_TENSOR]}
_SERVER = {"name": "pipeserve", "version": __version__, "extensions": list(EXTENSIONS)}
_METADATA = {
    "name": "reviews",
    "versions": [VERSION],
    "platform": "transformers_torch",
    "inputs": [{"name": "inputs", "datatype": "BYTES", "shape": [-1]}],
    "outputs": [{"name": "outputs", "datatype": "BYTES", "shape": [-1]}],
}
_ENTRY = {"name": "reviews", "version": VERSION, "state": "READY", "reason": ""}


def open_inference_document() -> Document:
    paths: dict[str, Any] = {
        "/v2": _get("open_inference_server", "What this server speaks.", "ServerMetadata", _SERVER),
        "/v2/health/live": _get("open_inference_live", "Whether the server answers.", "Live", {"live": True}),
        "/v2/health/ready": _get(
            "open_inference_ready", "Whether new requests are accepted. Waits for no model.", "Ready", {"ready": True}
        ),
        "/v2/repository/index": _post(
            "open_inference_index",
            "Every declared model and its state.",
            {"type": "object", "properties": {"ready": {"type": "boolean", "description": "true: loaded ones only."}}},
            {"type": "array", "items": {"$ref": REF.format(model="IndexEntry")}},
            [_ENTRY],
        ),
    }
    for action, summary in (("load", "Load a model."), ("unload", "Unload a model.")):
        parameters = {"type": "object", "description": "Of `unload`: `unload_dependents`, which is harmless."}
        paths[f"/v2/repository/models/{{model_id}}/{action}"] = _post(
            f"open_inference_{action}",
            f"{summary} The answer comes when it is done.",
            {"type": "object", "properties": {"parameters": parameters}},
            {"$ref": REF.format(model="IndexEntry")},
            _ENTRY,
            [_model_id()],
        )
    for suffix, version in (("", []), ("/versions/{version}", [_version()])):
        base, name = f"/v2/models/{{model_id}}{suffix}", "_version" if version else ""
        parameters_of = [_model_id(), *version]
        paths[base] = _get(
            f"open_inference_model{name}", "The tensors of the model's first task.", "ModelMetadata", _METADATA,
            parameters_of,
        )  # fmt: skip
        paths[f"{base}/ready"] = _get(
            f"open_inference_model{name}_ready",
            "Whether the model answers requests. One that is not loaded does: its first request loads it. One with"
            " `preload` does once it is loaded.",
            "Ready",
            {"name": "reviews", "ready": True},
            parameters_of,
        )
        paths[f"{base}/infer"] = {"post": _infer(name, parameters_of)}
    return Document(paths, _schemas())


def _schemas() -> dict[str, Any]:
    forms = (InferBody, InferAnswerBody, ModelMetadata, ServerMetadata, IndexEntry, Live, Ready)
    _, defined = TypeAdapter.json_schemas(
        [(form.__name__, "validation", TypeAdapter(form)) for form in forms], ref_template=REF
    )
    schemas: dict[str, Any] = defined["$defs"]
    return schemas


def _model_id() -> dict[str, Any]:
    return parameter("model_id", "path", "The id or alias of a declared model; it may hold slashes.")


def _version() -> dict[str, Any]:
    return parameter("version", "path", "Every model has one version.", enum=[VERSION])


def _operation(operation_id: str, summary: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {"tags": [TAG], "summary": summary, "operationId": operation_id, "parameters": parameters}


def _responses(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    answer = {"description": "The answer.", "content": {"application/json": {"schema": schema, "example": example}}}
    return {"200": answer, **error_answers()}


def _get(
    operation_id: str, summary: str, answer: str, example: Any, parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    responses = _responses({"$ref": REF.format(model=answer)}, example)
    return {"get": {**_operation(operation_id, summary, parameters or []), "responses": responses}}


def _post(
    operation_id: str,
    summary: str,
    body: dict[str, Any],
    answer: dict[str, Any],
    example: Any,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    request = {**json_body(body, {}), "required": False}
    operation = _operation(operation_id, summary, parameters or [])
    return {"post": {**operation, "requestBody": request, "responses": _responses(answer, example)}}


def _infer(suffix: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """JSON, or JSON with binary data behind it, both ways."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    length = parameter(_HEADER_LENGTH, "header", "Bytes of the JSON where binary data follows it.")
    operation = _operation(f"open_inference_infer{suffix}", "Run a model on tensors.", [*parameters, length])
    operation["parameters"] = [*operation["parameters"], *call_parameters(with_model=False)]
    operation["requestBody"] = json_body({"$ref": REF.format(model="InferBody")}, _REQUEST)
    operation["requestBody"]["content"]["application/octet-stream"] = binary
    operation["responses"] = _responses({"$ref": REF.format(model="InferAnswerBody")}, _ANSWER)
    operation["responses"]["200"]["content"]["application/octet-stream"] = binary
    return operation
