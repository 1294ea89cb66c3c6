"""How the tasks' requests and answers are tensors. What is a matter of choice is data, at the top."""

from __future__ import annotations

import base64
import io
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter

from app.api.json_text import MAX_VALUES, read_json
from app.api.npy import NPY
from app.api.open_inference.pixels import png_of
from app.api.open_inference.tensors import BYTES, Tensor
from app.errors import InputTooLarge, InvalidInput
from app.tasks.base import JSON, Task
from app.tasks.requests import require_few

INPUTS, OUTPUTS = "inputs", "outputs"

INPUT_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text": (INPUTS, "input", "input-0", "INPUT0", "text", "TEXT", "text_input"),
        "media": (INPUTS, "input", "input-0", "INPUT0", "image", "IMAGE", "audio", "AUDIO", "video", "VIDEO"),
        "json": (INPUTS, "input", "input-0", "INPUT0"),
    }
)
"""What the tensor of a task's inputs may be called, by what its elements are; the first is in the metadata.

text: UTF-8. media: a file as it is, or in JSON its base64. json: the JSON of an input."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A part of each answer that is an output of its own. file: base64 in the answer, the file itself in the tensor."""

    name: str
    datatype: Literal["BYTES", "FP32", "INT32"]
    is_file: bool = False


_LABEL = (Extra("label", "BYTES"), Extra("score", "FP32"))
_ANSWER = (Extra("answer", "BYTES"), Extra("score", "FP32"))
_GENERATED = (Extra("generated_text", "BYTES"),)
EXTRAS: Mapping[str, tuple[Extra, ...]] = MappingProxyType(
    {
        "text-classification": _LABEL,
        "zero-shot-classification": _LABEL,
        "image-classification": _LABEL,
        "zero-shot-image-classification": _LABEL,
        "audio-classification": _LABEL,
        "zero-shot-audio-classification": _LABEL,
        "video-classification": _LABEL,
        "question-answering": _ANSWER,
        "document-question-answering": _ANSWER,
        "visual-question-answering": _ANSWER,
        "table-question-answering": (Extra("answer", "BYTES"),),
        "text-generation": _GENERATED,
        "text2text-generation": _GENERATED,
        "image-text-to-text": _GENERATED,
        "image-to-text": _GENERATED,
        "summarization": (Extra("summary_text", "BYTES"),),
        "translation": (Extra("translation_text", "BYTES"),),
        "automatic-speech-recognition": (Extra("text", "BYTES"),),
        "image-to-image": (Extra("image", "BYTES", is_file=True),),
        "text-to-audio": (Extra("audio", "BYTES", is_file=True), Extra("sampling_rate", "INT32")),
    }
)
"""Outputs beside `outputs`, for clients that read no JSON: of the first (best) where an answer is a list."""

_NUMPY_DATATYPES = {"<f4": "FP32", "<f8": "FP64", "<f2": "FP16", "<i8": "INT64", "<i4": "INT32", "|u1": "UINT8"}
_LETTERS = {"FP32": "f", "INT32": "i"}
_NO_PARAMETERS = ("encoding_format",)  # base64 of embeddings: a tensor has its own forms

Kind = Literal["text", "media", "json", "texts", "files"]
"""What an input or a field of one is. texts, files: lists, [n, k] in a tensor, or [n] with each list as JSON."""


class TaskTensors:
    """The tensors of one task, from its types. Built once. max_inputs: of one request."""

    def __init__(self, task: Task, *, max_inputs: int | None = None) -> None:
        self._task = task
        self._max_inputs = max_inputs
        schema = TypeAdapter(task.input_type).json_schema()
        definitions = schema.get("$defs", {})
        members = _members(schema, definitions)
        self._element: Kind = _kind(members)
        self._fields: dict[str, Kind] = {}
        self._required: set[str] = set()
        for member in members:
            for name, field in member.get("properties", {}).items():
                self._fields[name] = _kind(_members(field, definitions))
            self._required |= set(member.get("required", ()))
        self._takes_inputs = self._element != "json" or not self._fields
        parameters = task.parameters.model_json_schema()
        definitions = parameters.get("$defs", {})
        self._parameters = {
            name: {str(member.get("type")) for member in _members(field, definitions)}
            for name, field in parameters.get("properties", {}).items()
        }
        self._is_array = NPY in task.answers

    # Metadata

    def inputs(self) -> list[dict[str, Any]]:
        """In the words of a model's metadata. -1: as many as are sent."""
        slots = {INPUTS: self._element} if self._takes_inputs else self._fields
        shapes = {name: [-1, -1] if kind in _LISTS else [-1] for name, kind in slots.items()}
        return [{"name": name, "datatype": BYTES, "shape": shape} for name, shape in shapes.items()]

    def outputs(self) -> list[dict[str, Any]]:
        main = {"datatype": "FP32", "shape": [-1, -1]} if self._is_array else {"datatype": BYTES, "shape": [-1]}
        extras = [{"name": extra.name, "datatype": extra.datatype, "shape": [-1]} for extra in self._extras]
        return [{"name": OUTPUTS, **main}, *extras]

    @property
    def _extras(self) -> tuple[Extra, ...]:
        return EXTRAS.get(self._task.name, ())

    # Tensors -> the task's body

    @property
    def accept(self) -> str:
        """The form of answers that `answer` reads."""
        return NPY if self._is_array else JSON

    def body(self, tensors: Sequence[Tensor], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The task's own body. parameters: of the request. Raises InvalidInput naming the tensor or parameter."""
        values = {name: self._parsed(name, value) for name, value in parameters.items()}
        inputs: list[Tensor] = []
        fields: list[Tensor] = []
        names = INPUT_NAMES.get(self._element, INPUT_NAMES["json"])
        is_object = any(tensor.name in self._fields and tensor.name not in names for tensor in tensors)
        for tensor in tensors:
            if tensor.name in self._fields and (is_object or tensor.name not in names):
                fields.append(tensor)
            elif tensor.name in names and not is_object:
                inputs.append(tensor)
            elif tensor.name in self._parameters and tensor.name not in values:
                values[tensor.name] = self._parameter_of(tensor)
            else:
                raise InvalidInput(self._no_such_tensor(tensor.name), param=tensor.name)
        if self._is_array:
            values = self._as_numbers(values)
        rows = self._objects(fields) if fields else self._inputs(inputs)
        return {"inputs": rows, **({"parameters": values} if values else {})}

    def _no_such_tensor(self, name: str) -> str:
        known = [INPUTS, *self._fields, *self._parameters]
        return f"{name[:64]!r}: {self._task.name} has no such tensor; there are {', '.join(known)}."

    def _as_numbers(self, values: dict[str, Any]) -> dict[str, Any]:
        for name in _NO_PARAMETERS:
            if values.get(name) not in (None, "float"):
                raise InvalidInput(f"parameters.{name}: the answer is a tensor.", param=f"parameters.{name}")
            if name in self._parameters:
                values = {**values, name: "float"}
        return values

    def _inputs(self, tensors: list[Tensor]) -> list[Any]:
        if not tensors:
            missing = [INPUTS] if self._takes_inputs else sorted(self._required)
            raise InvalidInput(f"There is no tensor {' or '.join(missing)}.", param=missing[0])
        if len(tensors) > 1:
            both = " and ".join(tensor.name for tensor in tensors[:2])
            raise InvalidInput(f"{both} are two names of the same tensor.", param=tensors[1].name)
        return self._rows(tensors[0], self._element)

    def _objects(self, tensors: list[Tensor]) -> list[dict[str, Any]]:
        """One object of each row."""
        columns = {tensor.name: self._rows(tensor, self._fields[tensor.name]) for tensor in tensors}
        lengths = {len(rows) for rows in columns.values()}
        if len(lengths) > 1:
            found = ", ".join(f"{name} {len(rows)}" for name, rows in columns.items())
            raise InvalidInput(f"The tensors of one request have equally many rows, not {found}.", param=INPUTS)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _rows(self, tensor: Tensor, kind: Kind) -> list[Any]:
        """Raises InputTooLarge before it makes a file of each of too many pixels."""
        if tensor.shape and not _is_one(tensor):
            require_few(tensor.name, tensor.shape[0], self._max_inputs, of="rows")
        return _rows(tensor, kind)

    def _parameter_of(self, tensor: Tensor) -> Any:
        """A tensor called as a parameter: one value, or a list where the parameter takes one."""
        count = math.prod(tensor.shape)
        if count != 1 and "array" not in self._parameters[tensor.name]:
            raise InvalidInput(f"{tensor.name}: {count} values for one parameter.", param=tensor.name)
        if count > MAX_VALUES:
            raise InputTooLarge(f"{tensor.name}: {count} values; the limit is {MAX_VALUES:,}.", param=tensor.name)
        elements = [_text(one, tensor.name) if tensor.datatype == BYTES else one for one in tensor.elements()]
        return self._parsed(tensor.name, elements[0]) if count == 1 else elements

    def _parsed(self, name: str, value: Any) -> Any:
        """Text that holds JSON of a kind that the parameter takes becomes its value: a parameter of the protocol is a
        number, a truth value or text. All other text stays, and the task's own check looks at it."""
        types = self._parameters.get(name, {"string"})
        if not isinstance(value, str):
            return value
        try:
            parsed = read_json(value)
        except ValueError:
            return value
        kinds = _JSON_TYPES.get(type(parsed), frozenset())
        return parsed if kinds & (types & _NESTED if "string" in types else types) else value

    # The task's answers -> tensors

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raises InvalidInput for one that this task does not have."""
        known = [OUTPUTS, *(extra.name for extra in self._extras)]
        for name in names:
            if name not in known:
                raise InvalidInput(
                    f"{name[:64]!r}: {self._task.name} has no such output; there are {', '.join(known)}.", param=name
                )

    def answer(self, fragments: list[bytes], names: Sequence[str]) -> list[Tensor]:
        """fragments: in the form `accept`. names: of the outputs wanted, in order; none for all."""
        if self._is_array:
            return [_array(fragments)]
        tensors = {} if names and OUTPUTS not in names else {OUTPUTS: _texts(OUTPUTS, fragments)}
        wanted = [extra for extra in self._extras if not names or extra.name in names]
        if wanted:
            parts = [_first(orjson.loads(fragment)) for fragment in fragments]
            for extra in wanted:
                if all(extra.name in part for part in parts):
                    tensors[extra.name] = _extra(extra, [part[extra.name] for part in parts])
                elif names:
                    raise InvalidInput(f"{extra.name}: the answer to this request has none.", param=extra.name)
        return [tensors[name] for name in names] if names else list(tensors.values())


_LISTS = ("texts", "files")
_NESTED = frozenset({"array", "object"})
_JSON_TYPES: Mapping[type, frozenset[str]] = MappingProxyType(
    {
        bool: frozenset({"boolean"}),
        int: frozenset({"integer", "number"}),
        float: frozenset({"number"}),
        list: frozenset({"array"}),
        dict: frozenset({"object"}),
    }
)


def _members(schema: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of a union, references followed."""
    if "$ref" in schema:
        return _members(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return [found for one in schema.get("anyOf", ()) for found in _members(one, definitions)] or [schema]


def _kind(members: list[dict[str, Any]]) -> Kind:
    strings = [member for member in members if member.get("type") == "string"]
    if any(member.get("format") == "byte" for member in strings):
        return "media"
    if strings:
        return "text"
    items = [member.get("items", {}) for member in members if member.get("type") == "array"]
    if not items or any(item.get("type") != "string" for item in items):
        return "json"
    return "files" if any(item.get("format") == "byte" for item in items) else "texts"


def _is_one(tensor: Tensor) -> bool:
    """Whether its first axis is the height of a picture."""
    return tensor.datatype == "UINT8" and len(tensor.shape) == 3


def _rows(tensor: Tensor, kind: Kind) -> list[Any]:
    """One value per element; of UINT8 one image per [height, width, 3]. Raises InvalidInput."""
    name, shape = tensor.name, tensor.shape
    if kind == "media" and tensor.datatype == "UINT8":
        return _images(tensor)
    if tensor.datatype != BYTES:
        raise InvalidInput(f"{name}: its datatype is BYTES, not {tensor.datatype}.", param=name)
    elements = tensor.elements()
    if kind in _LISTS and len(shape) == 2 and elements:
        members = elements if kind == "files" else [_text(one, name) for one in elements]
        return [members[start : start + shape[1]] for start in range(0, len(members), shape[1])]
    if len(elements) != (shape[0] if shape else 1):
        raise InvalidInput(f"{name}: its shape is [n] or [n, 1], not {list(shape)}.", param=name)
    if kind == "media":
        return elements
    values = [_text(one, name) for one in elements]
    return values if kind == "text" else [_json(one, f"{name}[{index}]") for index, one in enumerate(values)]


def _text(element: bytes | str, name: str) -> str:
    try:
        return element.decode() if isinstance(element, bytes) else element
    except UnicodeDecodeError:
        raise InvalidInput(f"{name}: an element is not UTF-8.", param=name) from None


def _json(text: str, where: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        reason = getattr(error, "msg", error)
        raise InvalidInput(f"{where}: an element is the JSON of an input: {reason}.", param=where) from None


def _images(tensor: Tensor) -> list[bytes]:
    shape = tensor.shape if len(tensor.shape) == 4 else (1, *tensor.shape)
    if len(shape) != 4 or shape[3] != 3 or 0 in shape or not isinstance(tensor.data, bytes):
        raise InvalidInput(
            f"{tensor.name}: pixels are UINT8 [height, width, 3] or [n, height, width, 3], not {list(tensor.shape)}.",
            param=tensor.name,
        )
    count, height, width, _ = shape
    size = height * width * 3
    return [
        png_of(tensor.data[start : start + size], height=height, width=width) for start in range(0, count * size, size)
    ]


def _texts(name: str, fragments: Sequence[bytes | str]) -> Tensor:
    data: list[bytes | str] = [one.decode() if isinstance(one, bytes) else one for one in fragments]
    return Tensor(name=name, datatype=BYTES, shape=(len(data),), data=data)


def _first(answer: Any) -> dict[str, Any]:
    while isinstance(answer, list) and answer:
        answer = answer[0]
    return answer if isinstance(answer, dict) else {}


def _extra(extra: Extra, values: list[Any]) -> Tensor:
    if extra.is_file:
        files: list[bytes | str] = [base64.b64decode(value) for value in values]
        return Tensor(name=extra.name, datatype=BYTES, shape=(len(files),), data=files)
    if extra.datatype == BYTES:
        texts = [value if isinstance(value, str) else orjson.dumps(value).decode() for value in values]
        return _texts(extra.name, texts)
    packed = struct.pack(f"<{len(values)}{_LETTERS[extra.datatype]}", *values)
    return Tensor(name=extra.name, datatype=extra.datatype, shape=(len(values),), data=packed)


def _array(fragments: list[bytes]) -> Tensor:
    """Arrays of equal shape as one tensor with a first axis over the inputs; of others each as JSON."""
    import numpy as np  # a tenth of a second that few servers need

    arrays = [np.load(io.BytesIO(fragment), allow_pickle=False) for fragment in fragments]
    if len({array.shape for array in arrays}) > 1:
        return _texts(OUTPUTS, [orjson.dumps(array.tolist()) for array in arrays])
    stacked = np.stack(arrays)
    datatype = _NUMPY_DATATYPES[stacked.dtype.str]
    return Tensor(name=OUTPUTS, datatype=datatype, shape=stacked.shape, data=stacked.tobytes())
