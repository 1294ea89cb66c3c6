"""Inference requests and answers on the wire: a JSON object, and behind it the binary data of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.api.body import parse_json
from app.api.open_inference.tensors import Tensor, from_binary, from_json, to_binary, to_json
from app.errors import InvalidInput, MalformedBody
from app.tasks.requests import as_invalid_input

HEADER_LENGTH = b"inference-header-content-length"
BINARY_OUTPUT = "binary_data_output"


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class InputParameters(_Form):
    binary_data_size: int | None = Field(
        default=None, ge=0, description="Bytes of this tensor behind the JSON, in the order of the tensors."
    )
    content_type: Literal["str"] | None = Field(default=None, description="As MLServer's clients say; harmless.")


class InputTensor(_Form):
    name: str = Field(min_length=1)
    shape: list[int]
    datatype: str
    parameters: InputParameters | None = None
    data: Any = Field(default=None, description="Flat or nested, row-major; not beside `binary_data_size`.")


class OutputParameters(_Form):
    binary_data: bool | None = Field(default=None, description="true: behind the JSON instead of in it.")


class WantedOutput(_Form):
    name: str = Field(min_length=1)
    parameters: OutputParameters | None = None


class InferBody(_Form):
    """The JSON of an inference request."""

    id: str | None = None
    parameters: dict[str, Any] | None = Field(
        default=None,
        description="The task's parameters; text that holds JSON where a parameter is no text. Besides: `task` (one of"
        " the model's), `binary_data_output`, `timeout` (microseconds), `keep_alive`, `priority` (harmless).",
    )
    inputs: list[InputTensor] = Field(min_length=1)
    outputs: list[WantedOutput] | None = Field(default=None, description="Unset or empty: all that the task has.")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """outputs: names of those wanted, none for all. binary: which come as binary data; `is_binary` for all others."""

    id: str | None
    inputs: list[Tensor]
    outputs: list[str]
    parameters: dict[str, Any]
    is_binary: bool
    binary: Mapping[str, bool]

    def wants_binary(self, name: str) -> bool:
        return self.binary.get(name, self.is_binary)


def read_request(raw: bytes, headers: Mapping[bytes, bytes]) -> InferRequest:
    """Raises MalformedBody for lengths that do not fit, InvalidInput naming the field."""
    header, binary = _parted(raw, headers.get(HEADER_LENGTH))
    value = parse_json(header, {})
    if not isinstance(value, dict):
        raise MalformedBody("An inference request is a JSON object.")
    try:
        body = InferBody.model_validate(value)
    except ValidationError as error:
        raise as_invalid_input(error, "", None) from None
    parameters = dict(body.parameters or {})
    outputs = body.outputs or []
    return InferRequest(
        id=body.id,
        inputs=_tensors(body.inputs, binary),
        outputs=_names([output.name for output in outputs], "outputs"),
        parameters=parameters,
        is_binary=_flag(parameters.pop(BINARY_OUTPUT, None)),
        binary={
            output.name: output.parameters.binary_data
            for output in outputs
            if output.parameters is not None and output.parameters.binary_data is not None
        },
    )


def _parted(raw: bytes, length: bytes | None) -> tuple[bytes, bytes]:
    """The JSON and what follows it. length: the header that says where one ends and the other begins."""
    if length is None:
        return raw, b""
    if not length.isdigit() or len(length) > 18:
        raise MalformedBody("Inference-Header-Content-Length must be a number of bytes.")
    size = int(length)
    if size > len(raw):
        raise MalformedBody(f"Inference-Header-Content-Length is {size}; the body has {len(raw)} bytes.")
    return raw[:size], raw[size:]


def _names(names: list[str], where: str) -> list[str]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise InvalidInput(f"{where}[{index}]: {name[:64]!r} stands twice.", param=f"{where}[{index}]")
        seen.add(name)
    return names


def _flag(value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidInput(f"parameters.{BINARY_OUTPUT} must be true or false.", param=f"parameters.{BINARY_OUTPUT}")


def _tensors(forms: Sequence[InputTensor], binary: bytes) -> list[Tensor]:
    _names([form.name for form in forms], "inputs")
    tensors: list[Tensor] = []
    start = 0
    for index, form in enumerate(forms):
        where = f"inputs[{index}]"
        size = None if form.parameters is None else form.parameters.binary_data_size
        if size is None:
            tensors.append(from_json(form.name, form.datatype, form.shape, form.data, where))
            continue
        if form.data is not None:
            raise InvalidInput(f"{where}: `data` and binary data at the same time.", param=f"{where}.data")
        if start + size > len(binary):
            left = len(binary) - start
            raise MalformedBody(f"{where}: {size} bytes of binary data are announced; {left} are left of the body.")
        tensors.append(from_binary(form.name, form.datatype, form.shape, binary[start : start + size], where))
        start += size
    if start != len(binary):
        raise MalformedBody(f"{len(binary) - start} bytes of the body belong to no tensor.")
    return tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class InferAnswer:
    """header_length: of the JSON at the body's beginning; None where there is nothing else."""

    body: bytes
    header_length: int | None


def write_answer(request: InferRequest, model: str, version: str, tensors: Sequence[Tensor]) -> InferAnswer:
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for tensor in tensors:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if request.wants_binary(tensor.name):
            parts.append(to_binary(tensor))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = to_json(tensor)
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id is not None:
        answer["id"] = request.id
    header = orjson.dumps(answer)
    return InferAnswer(body=b"".join((header, *parts)), header_length=len(header) if parts else None)
