"""What a form is opened with: the examples of a model's card, and what a link says."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from app.tasks.base import Task
from app.ui.told import PATH
from app.ui.try_it.form import FILE_KINDS, FORM_PARAMETERS, Field

MAX_EXAMPLES = 12
_MAX_TITLE_CHARS = 48
_MAX_LINK_CHARS = 6000  # browsers take more, what stands between them and the server often does not


@dataclass(frozen=True, kw_only=True)
class CardExample:
    """body: `inputs` and `parameters`, in place of a file its path in the model's folder. output: what the card says
    that the model answers, if it says so. messages: of a chat."""

    title: str
    body: Mapping[str, Any] = field(default_factory=dict)
    output: str | None = None
    messages: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the address of a page says. example: the number of one of the card's, from 1."""

    model: str = ""
    task: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    example: int | None = None


def asked_of(query: Mapping[str, str]) -> Asked:
    """Whoever made the link: what cannot be read is as if it were not there."""
    body: dict[str, Any] = {}
    if "inputs" in query:
        body["inputs"] = _json_or_text(query["inputs"])
    if isinstance(parameters := _json_or_text(query.get("parameters", "")), dict):
        body["parameters"] = parameters
    number = query.get("example", "")
    return Asked(
        model=query.get("id", ""),
        task=query.get("task"),
        body=body,
        example=int(number) if number.isascii() and number.isdigit() and len(number) < 4 else None,
    )


def link_of(model: str, task: str, body: Mapping[str, Any], fields: Sequence[Field]) -> str | None:
    """A path that opens the form as it is, its files left out. None: it would be too long to be sent about."""
    files = {one.path for one in fields if one.kind in FILE_KINDS}
    inputs = _without(body.get("inputs"), ("inputs",), files)
    query = {"id": model, "task": task}
    if inputs is not None:
        query["inputs"] = inputs if _is_plain(inputs) else json.dumps(inputs, ensure_ascii=False)
    if body.get("parameters"):
        query["parameters"] = json.dumps(body["parameters"], ensure_ascii=False)
    link = f"{PATH}/model?{urlencode(query)}"
    return link if len(link) <= _MAX_LINK_CHARS else None


def _is_plain(inputs: Any) -> bool:
    """A text that is not read as something else when the link is opened."""
    return isinstance(inputs, str) and _json_or_text(inputs) == inputs


def _json_or_text(text: str) -> Any:
    if not text.startswith(("{", "[", '"')):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _without(value: Any, path: tuple[str | int, ...], files: Collection[tuple[str | int, ...]]) -> Any:
    if path in files:
        return None
    if isinstance(value, dict):
        kept = {name: _without(one, (*path, name), files) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one is not None} or None
    if isinstance(value, list) and any((*path, at) in files for at in range(len(value))):
        return None  # of pictures alone
    if isinstance(value, list):
        return [_without(one, (*path, at), files) for at, one in enumerate(value)]
    return value


def examples_of(
    task: Task, front: Mapping[str, Any], fields: Sequence[Field], files: Collection[str]
) -> list[CardExample]:
    """Of the card's front matter, those that this task can be asked. files: the paths in the model's folder."""
    widget = front.get("widget")
    found = (_example(task, one, fields, files) for one in (widget if isinstance(widget, list) else [widget]))
    return [one for one in found if one is not None][:MAX_EXAMPLES]


def _example(task: Task, item: Any, fields: Sequence[Field], files: Collection[str]) -> CardExample | None:
    """None: it is for another task, or its file is at another host."""
    if not isinstance(item, dict):
        return None
    values = dict(_values(item, fields, files))
    messages = [one for one in _list(item.get("messages")) if _is_message(one)]
    body: dict[str, Any] = {}
    if values and len(values) == len(fields):
        for one in fields:
            _put(body, one, values[one.path])
        body["parameters"] = {**_parameters(task, item), **body.get("parameters", {})}
    elif not messages:
        return None
    title = item.get("example_title") or next(
        (value for value in (*values.values(), *(one["content"] for one in messages)) if isinstance(value, str)), ""
    )
    return CardExample(title=_short(str(title)), body=body, output=_output(item), messages=messages)


def _values(
    item: Mapping[str, Any], fields: Sequence[Field], files: Collection[str]
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The Hub's names of what stands at the fields' paths."""
    for one in fields:
        name = str(one.path[-1])
        if one.kind in FILE_KINDS:
            value: Any = path_in_folder(str(item.get("src", "")), files)
        else:
            value = next((item[key] for key in _HUB_NAMES.get(name, (name,)) if key in item), None)
        if one.kind == "labels" and isinstance(value, str):
            value = [label.strip() for label in value.split(",")]
        if one.kind == "lines" and isinstance(value, str):
            value = value.splitlines()
        if one.kind == "table" and isinstance(value, dict):
            value = {str(key): [str(cell) for cell in _list(cells)] for key, cells in value.items()}
        if _fits(one, value):
            yield one.path, value


_HUB_NAMES: Mapping[str, tuple[str, ...]] = {
    "inputs": ("text",),
    "question": ("text", "question"),
    "query": ("text", "query", "source_sentence"),
    "texts": ("texts", "sentences"),
}


def _fits(one: Field, value: Any) -> bool:
    if one.kind == "table":
        return isinstance(value, dict) and len({len(cells) for cells in value.values()}) == 1
    if one.kind in ("lines", "labels"):
        return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)
    return one.kind != "json" and isinstance(value, str) and bool(value)


def _put(body: dict[str, Any], one: Field, value: Any) -> None:
    place = body
    for step in one.path[:-1]:
        place = place.setdefault(str(step), {})
    place[str(one.path[-1])] = value


def _parameters(task: Task, item: Mapping[str, Any]) -> dict[str, Any]:
    given = item.get("parameters")
    known = task.parameters.model_fields.keys() - FORM_PARAMETERS
    return {name: value for name, value in given.items() if name in known} if isinstance(given, dict) else {}


def path_in_folder(address: str, files: Collection[str]) -> str | None:
    """Of a `src`: a path, or an address at the Hub of a file that the model's folder has too. Nothing is fetched."""
    parts = urlsplit(address)
    if not parts.scheme:
        path = address.removeprefix("./")
    else:
        # /<owner>/<name>/resolve/<revision>/<path>; those of data sets and spaces are elsewhere.
        steps = unquote(parts.path).strip("/").split("/")
        kinds = [at for at, step in enumerate(steps[:3]) if step in ("resolve", "blob", "raw")]
        if not kinds or steps[0] in ("datasets", "spaces"):
            return None
        path = "/".join(steps[kinds[0] + 2 :])
    return path if path in files else None


def _output(item: Mapping[str, Any]) -> str | None:
    output = item.get("output")
    if isinstance(output, list):
        rows = [one for one in output if isinstance(one, dict) and "label" in one]
        return ", ".join(f"{one['label']} {one.get('score', '')}".strip() for one in rows[:5]) or None
    text = output.get("text") if isinstance(output, dict) else None
    return text if isinstance(text, str) else None


def _is_message(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and one.get("role") in ("system", "user", "assistant")
        and isinstance(one.get("content"), str)
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_TITLE_CHARS else f"{text[: _MAX_TITLE_CHARS - 1]}…"
