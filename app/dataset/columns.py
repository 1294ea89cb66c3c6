"""`--column` -> how a row becomes an input of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import msgspec
from pydantic import BaseModel

from app.dataset.media_folder import FILE, FILE_NAME
from app.dataset.rows import BadRow, Files, Row
from app.errors import InvalidInput
from app.tasks.base import Task

_TEXT = ("text", "inputs", "sentence")
_IMAGE = (FILE, FILE_NAME, "image", "img")
_AUDIO = (FILE, FILE_NAME, "audio")
_VIDEO = (FILE, FILE_NAME, "video")
_USUAL = {"text": _TEXT, "image": _IMAGE, "audio": _AUDIO, "video": _VIDEO, "multimodal": ()}
"""Columns that are the input where no other is named, by modality."""

_MEDIA_FIELDS = frozenset({"image", "audio", "video"})
_ELSEWHERE = ("data:", "http://", "https://")
_JSON_BEGINS = ("[", "{")


def fields_of(task: Task) -> Mapping[str, Any]:
    """The fields of the task's input where that may be an object, with their types; none where it may not."""
    model = next((one for one in _alternatives(task.input_type) if _is_model(one)), None)
    return {} if model is None else {name: field.annotation for name, field in model.model_fields.items()}


def _needed_fields(task: Task) -> list[str]:
    model = next((one for one in _alternatives(task.input_type) if _is_model(one)), None)
    return [] if model is None else [name for name, field in model.model_fields.items() if field.is_required()]


def _takes_plain(task: Task) -> bool:
    return any(not _is_model(one) for one in _alternatives(task.input_type))


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _alternatives(kind: Any) -> Iterator[Any]:
    """The members of a union, whatever they are annotated with."""
    if hasattr(kind, "__metadata__"):
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) is None or get_origin(kind) in (list, dict, tuple, Literal):
        yield kind
    else:
        for one in get_args(kind):
            yield from _alternatives(one)


def _is_list(kind: Any) -> bool:
    return any(one is list or get_origin(one) is list for one in _alternatives(kind))


@dataclass(frozen=True, kw_only=True)
class InputColumns:
    """plain: the columns that are the input itself, several for a task whose input is a list of them. fields: of an
    input that is an object, each with its column. files: where the files are that columns name."""

    plain: tuple[str, ...] = ()
    fields: Mapping[str, str]
    list_fields: frozenset[str] = frozenset()
    media_fields: frozenset[str] = frozenset()
    is_media: bool = False
    files: Files | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.plain, *self.fields.values())

    @property
    def has_files(self) -> bool:
        return self.is_media or any(field in self.media_fields for field in self.fields)

    def input_of(self, row: Row) -> Any:
        """Reads files. Raises BadRow."""
        if row.problem is not None:
            raise BadRow(row.problem)
        if self.plain:
            found = [self._file(row, name) if self.is_media else _value(row, name) for name in self.plain]
            return found[0] if len(found) == 1 else found
        return {field: self._field(row, field, column) for field, column in self.fields.items()}

    def _field(self, row: Row, field: str, column: str) -> Any:
        if field in self.media_fields:
            return self._file(row, column)
        value = _value(row, column)
        if isinstance(value, str) and value.lstrip()[:1] in _JSON_BEGINS and field in self.list_fields:
            return _from_json(value)
        return [value] if field in self.list_fields and isinstance(value, str) else value

    def _file(self, row: Row, column: str) -> Any:
        """The bytes of a file, or what the server makes them of: a URL, base64."""
        value = _value(row, column)
        if isinstance(value, dict) and "bytes" in value:
            value = value["bytes"] if value["bytes"] is not None else value.get("path")
        if not isinstance(value, str) or value.lower().startswith(_ELSEWHERE):
            return value
        return self._read(value, column)

    def _read(self, name: str, column: str) -> bytes:
        if self.files is None:
            raise BadRow(f"{column}: {name[:200]!r} is a path, and nobody said where it begins: --files FOLDER.")
        try:
            return self.files.read(name)
        except BadRow as error:
            raise BadRow(f"{column}: {error}") from None


def _value(row: Row, column: str) -> Any:
    value = row.values.get(column)
    if value is None:
        raise BadRow(f"{column}: there is nothing in this column.")
    return value


def _from_json(text: str) -> Any:
    """As it is where it only looks like JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def input_columns(task: Task, given: Sequence[str], columns: Sequence[str], files: Files | None = None) -> InputColumns:
    """given: of `--column`, each COLUMN or FIELD=COLUMN; none: what is clear without. Raises InvalidInput."""
    fields = fields_of(task)
    if not given:
        return _made(task, *_clear(task, columns), files)
    plain: list[str] = []
    named: dict[str, str] = {}
    for one in given:
        field, equals, column = one.partition("=")
        if not equals or one in columns:
            plain.append(one)
        elif field == "inputs":
            plain.append(column)
        elif field in fields:
            named[field] = column
        else:
            raise InvalidInput(f"--column {one}: {task.name} has no field {field}; {_what_is_taken(task)}.")
    if plain and named:
        raise InvalidInput(f"--column {plain[0]}: say of which field, as FIELD={plain[0]}; {_what_is_taken(task)}.")
    for column in (*plain, *named.values()):
        if column not in columns:
            raise InvalidInput(f'--column {column}: the data have no column "{column}"; there is {", ".join(columns)}.')
    if plain and not _takes_plain(task):
        raise InvalidInput(f"--column {plain[0]}: {task.name} takes {_what_is_taken(task)}: say FIELD={plain[0]}.")
    if named and (lacking := [field for field in _needed_fields(task) if field not in named]):
        raise InvalidInput(f"--column: {task.name} needs {', '.join(lacking)} too: --column {lacking[0]}=COLUMN.")
    return _made(task, tuple(plain), named, files)


def _made(task: Task, plain: tuple[str, ...], named: Mapping[str, str], files: Files | None) -> InputColumns:
    kinds = fields_of(task)
    media_field = (task.media_field or "").removeprefix("inputs.")
    return InputColumns(
        plain=plain,
        fields=named,
        list_fields=frozenset(name for name, kind in kinds.items() if _is_list(kind)),
        media_fields=frozenset(name for name in kinds if name in _MEDIA_FIELDS or name == media_field),
        is_media=task.media_field == "inputs" or (task.modality in _MEDIA_FIELDS and not kinds),
        files=files,
    )


def _clear(task: Task, columns: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Fields whose names are those of columns; or the one column, or that with a usual name."""
    needed = _needed_fields(task)
    if needed and not _takes_plain(task):
        named = {field: field for field in fields_of(task) if field in columns}
        if all(field in named for field in needed):
            return (), named
    else:
        usual = [name for name in _USUAL[task.modality] if name in columns]
        if len(columns) == 1 or usual:
            return ((usual or columns)[0],), {}
    raise InvalidInput(
        f"--column: which column is the input? {task.name} takes {_what_is_taken(task)}; the data have"
        f" {', '.join(columns) or 'none'}."
    )


def _what_is_taken(task: Task) -> str:
    fields = ", ".join(f"{name}=COLUMN" for name in fields_of(task))
    return " or ".join(one for one in ("COLUMN" if _takes_plain(task) else "", fields) if one)
