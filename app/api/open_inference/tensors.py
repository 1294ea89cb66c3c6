"""Tensors of the Open Inference Protocol, their data in JSON or as in the binary tensor data extension.

https://github.com/kserve/open-inference-protocol (required API), and Triton's extension_binary_data.md.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.api.json_text import MAX_VALUES
from app.errors import InputTooLarge, InvalidInput, MalformedBody

BYTES = "BYTES"
_BF16 = "BF16"
NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "?",
        "UINT8": "B",
        "UINT16": "H",
        "UINT32": "I",
        "UINT64": "Q",
        "INT8": "b",
        "INT16": "h",
        "INT32": "i",
        "INT64": "q",
        "FP16": "e",
        "FP32": "f",
        "FP64": "d",
    }
)
"""Datatypes, each with its letter of the `struct` module. BF16, which has none, is two bytes as well."""

DATATYPES = (*NUMBERS, _BF16, BYTES)
MAX_AXES = 16
MAX_ELEMENTS = 2**31 - 1
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """data: of BYTES its elements, as bytes (binary data, files) or str (JSON, texts); of all other datatypes the
    numbers, little-endian; both in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | list[bytes | str]

    def elements(self) -> list[Any]:
        """bytes and str of BYTES, else numbers."""
        if not isinstance(self.data, bytes):
            return list(self.data)
        if self.datatype == _BF16:  # the upper half of a float32
            widened = b"".join(b"\0\0" + self.data[start : start + 2] for start in range(0, len(self.data), 2))
            return list(struct.unpack(f"<{len(self.data) // 2}f", widened))
        letter = NUMBERS[self.datatype]
        return list(struct.unpack(f"<{len(self.data) // struct.calcsize(letter)}{letter}", self.data))


def num_elements(shape: tuple[int, ...] | list[int], where: str) -> int:
    """Raises InvalidInput for a shape that no tensor has."""
    if len(shape) > MAX_AXES or any(length < 0 for length in shape):
        raise InvalidInput(f"{where}.shape: up to {MAX_AXES} lengths, none negative.", param=f"{where}.shape")
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise InvalidInput(f"{where}.shape: {count} elements; the limit is {MAX_ELEMENTS}.", param=f"{where}.shape")
    return count


def check_datatype(datatype: str, where: str) -> None:
    """Raises InvalidInput."""
    if datatype not in DATATYPES:
        raise InvalidInput(
            f"{where}.datatype: {datatype[:32]!r} is none of {', '.join(DATATYPES)}.", param=f"{where}.datatype"
        )


def from_json(name: str, datatype: str, shape: list[int], data: Any, where: str) -> Tensor:
    """data: nested as the shape says, or flat. Raises InvalidInput."""
    check_datatype(datatype, where)
    count = num_elements(shape, where)
    if not isinstance(data, list):
        raise InvalidInput(f"{where}.data must be an array.", param=f"{where}.data")
    values = _flat(data, len(shape), where)
    if len(values) != count:
        raise InvalidInput(
            f"{where}.data has {len(values)} elements; its shape {shape} wants {count}.", param=f"{where}.data"
        )
    if datatype == BYTES:
        if not all(isinstance(value, str) for value in values):
            raise InvalidInput(f"{where}.data: elements of BYTES are strings in JSON.", param=f"{where}.data")
        return Tensor(name=name, datatype=datatype, shape=tuple(shape), data=values)
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), data=_packed(datatype, values, where))


def _flat(data: list[Any], depth: int, where: str) -> list[Any]:
    if not any(isinstance(value, list) for value in data):
        return data
    if depth <= 1 or not all(isinstance(value, list) for value in data):
        raise InvalidInput(f"{where}.data is nested otherwise than its shape.", param=f"{where}.data")
    return [value for part in data for value in _flat(part, depth - 1, where)]


def _packed(datatype: str, values: list[Any], where: str) -> bytes:
    if datatype == _BF16:
        raise InvalidInput(f"{where}: BF16 comes as binary data only.", param=where)
    is_bool = datatype == "BOOL"
    if any(isinstance(value, bool) is not is_bool for value in values):
        raise InvalidInput(f"{where}.data: not all elements are {datatype}.", param=f"{where}.data")
    try:
        return struct.pack(f"<{len(values)}{NUMBERS[datatype]}", *values)
    except (struct.error, OverflowError):
        raise InvalidInput(f"{where}.data: not all elements are {datatype}.", param=f"{where}.data") from None


def from_binary(name: str, datatype: str, shape: list[int], raw: bytes, where: str) -> Tensor:
    """raw: all of the tensor's data and nothing else. Raises InvalidInput, InputTooLarge, MalformedBody."""
    check_datatype(datatype, where)
    count = num_elements(shape, where)
    if datatype == BYTES:
        if count > MAX_VALUES:
            raise InputTooLarge(
                f"{where}.shape: {count} elements of BYTES; the limit is {MAX_VALUES:,}.", param=f"{where}.shape"
            )
        elements = _elements(raw, where)
        if len(elements) != count:
            raise MalformedBody(f"{where}: {len(elements)} elements in its data; its shape {shape} wants {count}.")
        return Tensor(name=name, datatype=datatype, shape=tuple(shape), data=elements)
    wanted = count * (2 if datatype == _BF16 else struct.calcsize(NUMBERS[datatype]))
    if len(raw) != wanted:
        raise MalformedBody(f"{where}: {len(raw)} bytes of data; {datatype} of shape {shape} wants {wanted}.")
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), data=raw)


def _elements(raw: bytes, where: str) -> list[bytes | str]:
    """Each element follows its length, four bytes."""
    elements: list[bytes | str] = []
    start = 0
    while start < len(raw):
        if start + _LENGTH.size > len(raw):
            raise MalformedBody(f"{where}: its data ends within the length of element {len(elements)}.")
        (length,) = _LENGTH.unpack_from(raw, start)
        start += _LENGTH.size
        if start + length > len(raw):
            raise MalformedBody(
                f"{where}: element {len(elements)} is to have {length} bytes; {len(raw) - start} follow."
            )
        elements.append(raw[start : start + length])
        start += length
    return elements


def to_json(tensor: Tensor) -> list[Any]:
    """Flat. Files, which JSON cannot hold, as base64."""
    if tensor.datatype != BYTES:
        return tensor.elements()
    return [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in tensor.data]


def to_binary(tensor: Tensor) -> bytes:
    if isinstance(tensor.data, bytes):
        return tensor.data
    parts: list[bytes] = []
    for one in tensor.data:
        element = one if isinstance(one, bytes) else one.encode()
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)
