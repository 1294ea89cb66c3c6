"""What a person fills in for a task, found in the example of its request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.tasks.base import Task
from app.tasks.samples import GIF_BASE64, PNG_BASE64, WAV_BASE64

Kind = Literal["text", "lines", "labels", "table", "image", "audio", "video", "json"]

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


@dataclass(frozen=True, kw_only=True)
class Field:
    """path: where its value stands in the body. example: that value in the task's example; "" of a file."""

    path: tuple[str | int, ...]
    kind: Kind
    label: str
    example: Any


def fields_of(task: Task) -> list[Field]:
    body = task.example.body
    found = list(_fields(("inputs",), body.get("inputs")))
    for name, value in body.get("parameters", {}).items():
        if name in FORM_PARAMETERS:
            found.append(Field(path=("parameters", name), kind="labels", label=_LABELS[name], example=value))
    return found


def parameters_of(task: Task) -> dict[str, Any]:
    """Of the example, what the form does not ask for."""
    given = task.example.body.get("parameters", {})
    return {name: value for name, value in given.items() if name not in FORM_PARAMETERS}


def _fields(path: tuple[str | int, ...], value: Any) -> Iterator[Field]:
    label = _LABELS.get(str(path[-1]), str(path[-1]).replace("_", " ").capitalize())
    if isinstance(value, str):
        kind = _FILES.get(value, "text")
        if kind != "text" and path == ("inputs",):
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
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _fields((*path, name), one)
    else:
        yield Field(path=path, kind="json", label=label, example=value)


def body_of(fields: Sequence[Field], values: Sequence[Any], parameters: str) -> dict[str, Any]:
    """values: as the form has them, files as base64. parameters: JSON. Raises ValueError with a sentence."""
    body: dict[str, Any] = {}
    given = _json(parameters, "Parameters") if parameters.strip() else {}
    if not isinstance(given, dict):
        raise ValueError('Parameters: write an object, such as {"top_k": 3}.')
    for field, value in zip(fields, values, strict=True):
        _put(body, field.path, _read(field, value))
    if given:
        body["parameters"] = {**given, **body.get("parameters", {})}
    return body


def _put(body: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    """A path that ends with a number is into a list, which is filled in order."""
    *way, last = path
    place: Any = body
    for at, name in enumerate(way):
        is_list = at == len(way) - 1 and isinstance(last, int)
        place = place.setdefault(name, [] if is_list else {})
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
    if field.kind == "lines":
        return [line.strip() for line in str(value).splitlines() if line.strip()]
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
