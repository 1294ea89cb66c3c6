"""What a person fills in for a task, found in the example of its request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from app.tasks.base import Task
from app.tasks.samples import GIF_BASE64, PNG_BASE64, WAV_BASE64

Kind = Literal["text", "texts", "lines", "labels", "table", "image", "audio", "video", "json"]

_FILES: Mapping[str, Kind] = {PNG_BASE64: "image", WAV_BASE64: "audio", GIF_BASE64: "video"}
_LABELS: Mapping[str, str] = {
    "inputs": "Input",
    "candidate_labels": "Labels, with commas between them",
    "source_sentence": "Sentence",
    "sentences": "Sentences to compare it with, one a line",
    "texts": "Texts to rank, one a line",
}
FORM_PARAMETERS = frozenset({"candidate_labels"})
"""Without these a task cannot be asked; all other parameters have defaults."""
FILE_KINDS = frozenset({"image", "audio", "video"})
_OF_FRAME = frozenset({"role", "type"})
_ENOUGH: Mapping[str, Any] = {"max_new_tokens": 64}
_FOR_PEOPLE: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(
        (
            "fill-mask",
            "text-classification",
            "image-classification",
            "audio-classification",
            "video-classification",
        ),
        {"top_k": 5},
    ),
    "summarization": {"generate_parameters": _ENOUGH},
    "translation": {"generate_parameters": _ENOUGH},
    **dict.fromkeys(("text-generation", "text2text-generation", "image-text-to-text", "any-to-any"), _ENOUGH),
}
_COMPARED = frozenset({"feature-extraction"})
"""Tasks whose answers for several texts are looked at together."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """path: where its value stands in the body. example: that value in the task's example; "" of a file.

    The kind "texts" is one text, or several with one a line; "lines" is a list also where there is one."""

    path: tuple[str | int, ...]
    kind: Kind
    label: str
    example: Any


def fields_of(task: Task) -> list[Field]:
    body = task.example.body
    found = list(_fields(("inputs",), body.get("inputs")))
    if task.name in _COMPARED:
        found = [replace(field, kind="texts", label="Texts, one a line") for field in found]
    for name, value in body.get("parameters", {}).items():
        if name in FORM_PARAMETERS:
            found.append(Field(path=("parameters", name), kind="labels", label=_LABELS[name], example=value))
    return found


def parameters_of(task: Task) -> dict[str, Any]:
    """Of the example, what the form does not ask for; examples are brief, a person wants to see more."""
    return {**more_parameters(task.example.body), **_FOR_PEOPLE.get(task.name, {})}


def frame_of(task: Task) -> dict[str, Any]:
    """What stands in the body around the fields: roles and types of messages."""
    inputs = task.example.body.get("inputs")
    return {"inputs": _frame(inputs)} if _are_messages(inputs) else {}


def _frame(value: Any) -> Any:
    if isinstance(value, list):
        return [_frame(one) for one in value]
    if isinstance(value, dict):
        return {name: _frame(one) for name, one in value.items() if name in _OF_FRAME or isinstance(one, list)}
    return value


def _are_messages(inputs: Any) -> bool:
    return isinstance(inputs, list) and all(isinstance(one, dict) and "role" in one for one in inputs)


def _fields(path: tuple[str | int, ...], value: Any) -> Iterator[Field]:
    label = _LABELS.get(str(path[-1]), str(path[-1]).replace("_", " ").capitalize())
    if _are_messages(value):
        for at, message in enumerate(value):
            for number, part in enumerate(message["content"]):
                for name in part.keys() - _OF_FRAME:
                    yield from _fields((*path, at, "content", number, name), part[name])
        return
    if isinstance(value, str):
        kind = _FILES.get(value, "text")
        if kind != "text" and path[-1] in ("inputs", "base64"):
            label = kind.capitalize()
        yield Field(path=path, kind=kind, label=label, example=value if kind == "text" else "")
    elif isinstance(value, list) and all(isinstance(one, str) for one in value):
        if any(one in _FILES for one in value):
            for at, one in enumerate(value):
                kind = _FILES[one]
                yield Field(path=(*path, at), kind=kind, label=f"{kind.capitalize()} {at + 1}", example="")
        else:
            yield Field(path=path, kind="lines", label=label, example=value)
    elif isinstance(value, dict) and value and all(isinstance(one, list) for one in value.values()):
        yield Field(path=path, kind="table", label=label, example=value)
    elif isinstance(value, dict) and not all(isinstance(one, dict) for one in value.values()):
        for name, one in value.items():
            yield from _fields((*path, name), one)
    else:
        yield Field(path=path, kind="json", label=label, example=value)


def values_of(fields: Sequence[Field], body: Mapping[str, Any]) -> list[Any]:
    """What body_of makes the body of; None where the body has nothing, or nothing that the field can show."""
    return [_shown(field, _find(body, field.path)) for field in fields]


def more_parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """Of the body, what the form does not ask for."""
    given = body.get("parameters")
    given = given if isinstance(given, dict) else {}
    return {name: value for name, value in given.items() if name not in FORM_PARAMETERS}


def _find(body: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        try:
            body = body[step]
        except (KeyError, IndexError, TypeError):
            return None
    return body


def _shown(field: Field, value: Any) -> Any:
    if value is None or field.kind in FILE_KINDS:
        return value if isinstance(value, str) else None
    if field.kind == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    if field.kind == "table":
        return value if isinstance(value, dict) and all(isinstance(one, list) for one in value.values()) else None
    if isinstance(value, list):
        return (", " if field.kind == "labels" else "\n").join(map(str, value))
    return str(value)


def body_of(
    fields: Sequence[Field], values: Sequence[Any], parameters: str, *, frame: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """values: as the form has them, files as base64. parameters: JSON. Raises ValueError with a sentence."""
    body = deepcopy(dict(frame))
    given = _json(parameters, "Parameters") if parameters.strip() else {}
    if not isinstance(given, dict):
        raise ValueError('Parameters: write an object, such as {"top_k": 3}.')
    for field, value in zip(fields, values, strict=True):
        _put(body, field.path, _read(field, value))
    if given:
        body["parameters"] = {**given, **body.get("parameters", {})}
    return body


def _put(body: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    """A path that ends with a number is into a list, which is filled in order; other numbers are of the frame's."""
    *way, last = path
    place: Any = body
    for at, name in enumerate(way):
        is_list = at == len(way) - 1 and isinstance(last, int)
        place = place[name] if isinstance(name, int) else place.setdefault(name, [] if is_list else {})
    if isinstance(place, list):
        place.append(value)
    else:
        place[last] = value


def _read(field: Field, value: Any) -> Any:
    if field.kind == "json":
        return _json(str(value), field.label)
    if field.kind == "table":
        return _table(value)
    if value is None or not str(value).strip():
        raise ValueError(f"{field.label.partition(',')[0]}: there is nothing there yet.")
    if field.kind in ("lines", "texts"):
        lines = [line.strip() for line in str(value).splitlines() if line.strip()]
        return lines[0] if field.kind == "texts" and len(lines) == 1 else lines
    if field.kind == "labels":
        return [label.strip() for label in str(value).split(",") if label.strip()]
    return str(value)


def _table(value: Any) -> dict[str, list[str]]:
    """value: headers, then rows."""
    headers, rows = value
    return {str(name): [str(row[at]) for row in rows] for at, name in enumerate(headers)}


def _json(text: str, label: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{label}: this is not JSON ({error}).") from None
