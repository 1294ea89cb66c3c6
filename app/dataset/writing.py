"""The journal and the rows -> the output, in the order of the rows, put in its place only when it is whole."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec

from app.dataset.answers import answer_columns, prefix_for
from app.dataset.extras import needed
from app.dataset.journal import Entry, Journal
from app.dataset.made_files import DEFAULT_MANIFEST, is_manifest
from app.dataset.rows import Row, Source
from app.dataset.tables import DELIMITERS, JSON_LINES, PARQUET, suffix_of
from app.errors import BackendFailed, InvalidInput
from app.tasks.base import Task

ERRORS_SUFFIX = ".errors.jsonl"
_WRITING_SUFFIX = ".writing"
_PARQUET_ROWS = 1000
OUT_SUFFIXES = (*DELIMITERS, *JSON_LINES, PARQUET)


def out_of(text: str) -> Path:
    """What `--out` says: a table, or a folder, whose table has a name of its own."""
    path = Path(text).expanduser()
    return path / DEFAULT_MANIFEST if text.endswith("/") or path.is_dir() else path


def check_out(out: Path) -> None:
    """Before anything is computed. Raises InvalidInput, NotAvailable."""
    if suffix_of(out) not in OUT_SUFFIXES or out.suffix not in OUT_SUFFIXES:
        raise InvalidInput(f"--out {out}: written are {', '.join(OUT_SUFFIXES)} files, and folders: {out}/.")
    folder = out.parent.parent if is_manifest(out) else out.parent
    if not folder.is_dir():
        raise InvalidInput(f"--out {out}: there is no folder {folder}.")
    if out.suffix == PARQUET:
        needed("pyarrow.parquet", "data")


def errors_of(out: Path) -> Path:
    return out.with_name(out.name + ERRORS_SUFFIX)


class Output:
    """kept: columns of the data that go into the output."""

    def __init__(
        self, source: Source, journal: Journal, task: Task, parameters: Mapping[str, Any], kept: Sequence[str]
    ) -> None:
        self._source = source
        self._journal = journal
        self._task = task
        self._parameters = parameters
        self._kept = kept

    def write(self, out: Path) -> None:
        """Also the rows that were set aside, as `OUT.errors.jsonl`. Blocks. May be done again after any end."""
        names = self._answer_names()
        prefix = prefix_for(names, self._kept)
        columns = [*self._kept, *(prefix + name for name in names)]
        records = (self._record(row, answer, prefix) for row, answer in self._answered())
        with _replaced(out) as file:
            if out.suffix in DELIMITERS:
                _write_csv(file, columns, records, DELIMITERS[out.suffix])
            elif out.suffix in JSON_LINES:
                _write_json_lines(file, records)
            else:
                _write_parquet(file, self._schema(columns, prefix), records)
        self._write_errors(errors_of(out))

    def _write_errors(self, path: Path) -> None:
        if self._journal.num_problems == 0:
            path.unlink(missing_ok=True)
            return
        with _replaced(path) as file:
            for row, entry in self._rows():
                if entry.problem is not None:
                    told = {"row": row.number + 1, "error": entry.problem, "values": row.values}
                    file.write(_json(told) + b"\n")

    def _rows(self) -> Iterator[tuple[Row, Entry]]:
        """Every row with what became of it."""
        entries = self._journal.entries()
        entry = next(entries, None)
        for row in self._source.rows():
            if entry is None:
                return
            if entry.number == row.number:
                yield row, entry
                entry = next(entries, None)

    def _answered(self) -> Iterator[tuple[Row, dict[str, Any]]]:
        for row, entry in self._rows():
            if entry.answer is not None:
                yield row, self._answer(entry.answer)

    def _answers(self) -> Iterator[dict[str, Any]]:
        return (self._answer(entry.answer) for entry in self._journal.entries() if entry.answer is not None)

    def _answer(self, answer: bytes) -> dict[str, Any]:
        return answer_columns(self._task, msgspec.json.decode(answer), self._parameters)

    def _answer_names(self) -> list[str]:
        """Of all answers, in the order in which they come."""
        names: dict[str, None] = {}
        for answer in self._answers():
            names.update(dict.fromkeys(answer))
        return list(names)

    def _record(self, row: Row, answer: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        kept = {name: row.values[name] for name in self._kept if name in row.values}
        return {**kept, **{prefix + name: value for name, value in answer.items()}}

    def _schema(self, columns: Sequence[str], prefix: str) -> Any:
        """The data's own types, and those that all answers fit; where the data have none, what all rows fit."""
        arrow = needed("pyarrow", "data")
        typed = self._source.arrow_schema()
        if typed is None:
            records: Iterable[dict[str, Any]] = (self._record(row, one, prefix) for row, one in self._answered())
            kept: list[Any] = []
        else:
            records = ({prefix + name: value for name, value in one.items()} for one in self._answers())
            kept = [typed.field(name) for name in self._kept]
        found = _inferred(arrow, records)
        answers = [found.field(name) for name in columns if name in found.names]
        return arrow.schema([*kept, *answers])


def _inferred(arrow: Any, records: Iterable[dict[str, Any]]) -> Any:
    """Raises BackendFailed where no column can hold all values of a name."""
    schema = arrow.schema([])
    try:
        for batch in _batches(records):
            names = dict.fromkeys(name for record in batch for name in record)
            arrays = {name: arrow.array([record.get(name) for record in batch]) for name in names}
            schema = arrow.unify_schemas([schema, arrow.table(arrays).schema], promote_options="permissive")
    except arrow.ArrowException as error:
        raise BackendFailed(f"Parquet needs one type a column, and these have several: {error} Write .jsonl.") from None
    return schema


def _batches(records: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    every = iter(records)
    while batch := list(islice(every, _PARQUET_ROWS)):
        yield batch


def _write_csv(file: IO[bytes], columns: Sequence[str], records: Iterable[dict[str, Any]], delimiter: str) -> None:
    lines = csv.writer(_Encoded(file), delimiter=delimiter, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows([_cell(record.get(name)) for name in columns] for record in records)


class _Encoded:
    """What `csv` writes to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def _cell(value: Any) -> Any:
    """Lists and objects as JSON."""
    if value is None or isinstance(value, str | int | float):
        return value
    return _json(value).decode()


def _write_json_lines(file: IO[bytes], records: Iterable[dict[str, Any]]) -> None:
    for record in records:
        file.write(_json(record) + b"\n")


def _json(value: Any) -> bytes:
    """Files within rows become base64, times ISO 8601."""
    return msgspec.json.encode(value, enc_hook=str)


def _write_parquet(file: IO[bytes], schema: Any, records: Iterable[dict[str, Any]]) -> None:
    arrow, parquet = needed("pyarrow", "data"), needed("pyarrow.parquet", "data")
    with parquet.ParquetWriter(file, schema) as writer:
        for batch in _batches(records):
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))


@contextmanager
def _replaced(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when it is whole and on the disk; nothing is left of it otherwise."""
    temporary = path.with_name(path.name + _WRITING_SUFFIX)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
