"""Tables in files: CSV, TSV and JSON lines, compressed by gzip or not, and Parquet. Read as streams, never whole."""

from __future__ import annotations

import codecs
import csv
import gzip
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from app.dataset.extras import needed
from app.dataset.files import FolderFiles
from app.dataset.rows import Files, Row
from app.errors import InvalidInput

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"
TABLE_SUFFIXES = (*DELIMITERS, *JSON_LINES, PARQUET)

_MAX_CELL_CHARS = 2**31 - 1  # the csv module's own limit is below that of a long text
_PARQUET_ROWS = 256  # of a batch: rows may hold images
_COMPRESSED = ".gz"


def suffix_of(path: Path) -> str:
    """Of the table, whether it is compressed or not."""
    name = path.name.lower()
    return Path(name.removesuffix(_COMPRESSED)).suffix


def table(path: Path) -> CsvTable | JsonLines | ParquetTable:
    """Raises InvalidInput for what is no table that is read here."""
    suffix = suffix_of(path)
    if suffix in DELIMITERS:
        return CsvTable(path, DELIMITERS[suffix])
    if suffix in JSON_LINES:
        return JsonLines(path)
    if suffix == PARQUET:
        return ParquetTable(path)
    hint = " Write one object a line and call it .jsonl." if suffix == ".json" else ""
    raise InvalidInput(f"{path}: read are {', '.join(TABLE_SUFFIXES)} files, and folders of images or sounds.{hint}")


class _FileTable:
    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def files(self) -> Files | None:
        return FolderFiles(self._path.parent)

    @cached_property
    def identity(self) -> str:
        state = self._path.stat()
        return f"{self._path.resolve()} {state.st_size} {state.st_mtime_ns}"

    def arrow_schema(self) -> Any:
        return None

    def label_names(self, column: str) -> tuple[str, ...] | None:
        return None

    def _open(self) -> IO[bytes]:
        if self._path.name.lower().endswith(_COMPRESSED):
            return cast(IO[bytes], gzip.open(self._path, "rb"))
        return self._path.open("rb")


class CsvTable(_FileTable):
    """The first line names the columns. All values are strings, as they stand there: `007` stays what it is."""

    def __init__(self, path: Path, delimiter: str) -> None:
        super().__init__(path)
        self._delimiter = delimiter

    @cached_property
    def columns(self) -> tuple[str, ...]:
        with self._open() as file:
            names = next(self._records(file), None)
        if not names:
            raise InvalidInput(f"{self._path}: it is empty; its first line should name the columns.")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInput(f'{self._path}: two columns are called "{twice}".')
        return tuple(names)

    @cached_property
    def num_rows(self) -> int:
        with self._open() as file:
            return max(0, sum(1 for _ in self._records(file)) - 1)

    def rows(self) -> Iterator[Row]:
        names = self.columns
        with self._open() as file:
            records = self._records(file)
            next(records)
            for number, record in enumerate(records):
                yield _csv_row(number, names, record)

    def _records(self, file: IO[bytes]) -> Iterator[list[str]]:
        """Lines without any cell are no rows."""
        csv.field_size_limit(_MAX_CELL_CHARS)
        text = (_decoded(line, is_first=number == 0) for number, line in enumerate(file))
        try:
            yield from (record for record in csv.reader(text, delimiter=self._delimiter) if record)
        except csv.Error as error:
            raise InvalidInput(f"{self._path}: {error}.") from None


def _decoded(line: bytes, *, is_first: bool) -> str:
    """Bytes that are not UTF-8 stay recognisable, for their row's problem. A mark of the byte order is no text."""
    return (line.removeprefix(codecs.BOM_UTF8) if is_first else line).decode("utf-8", "surrogateescape")


def _csv_row(number: int, names: tuple[str, ...], record: list[str]) -> Row:
    values: dict[str, Any] = dict(zip(names, record, strict=False))
    if len(record) != len(names):
        return Row(number, values, f"It has {len(record)} cells, the first line {len(names)}.")
    if not all(_is_unicode(cell) for cell in record):
        shown = {name: _shown(cell) for name, cell in values.items()}
        return Row(number, shown, "It is not UTF-8.")
    return Row(number, values)


def _shown(cell: str) -> str:
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class JsonLines(_FileTable):
    """One JSON object a line; lines may have different names. Empty lines are no rows."""

    @cached_property
    def _looked_through(self) -> tuple[tuple[str, ...], int]:
        names: dict[str, None] = {}
        num_rows = 0
        for row in self.rows():
            num_rows += 1
            names.update(dict.fromkeys(row.values))
        return tuple(names), num_rows

    @property
    def columns(self) -> tuple[str, ...]:
        return self._looked_through[0]

    @property
    def num_rows(self) -> int:
        return self._looked_through[1]

    def rows(self) -> Iterator[Row]:
        with self._open() as file:
            lines = (line for line in file if not line.isspace())
            for number, line in enumerate(lines):
                yield _json_row(number, line)


def _json_row(number: int, line: bytes) -> Row:
    try:
        values = _decode_json(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Row(number, {}, f"It is not JSON: {error}.")
    if not isinstance(values, dict):
        return Row(number, {}, "It is not a JSON object.")
    return Row(number, values)


_decode_json: Callable[[bytes], Any] = msgspec.json.Decoder().decode


class ParquetTable(_FileTable):
    """Types are kept; images and sounds are structs of `bytes` and `path`, as the `datasets` library writes them."""

    @cached_property
    def _metadata(self) -> tuple[Any, int]:
        parquet = needed("pyarrow.parquet", "data")
        try:
            file = parquet.ParquetFile(self._path)
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise InvalidInput(f"{self._path}: {error}") from None
        with file:
            return file.schema_arrow, file.metadata.num_rows

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._metadata[0].names)

    @property
    def num_rows(self) -> int:
        return int(self._metadata[1])

    def arrow_schema(self) -> Any:
        return self._metadata[0]

    def rows(self) -> Iterator[Row]:
        parquet = needed("pyarrow.parquet", "data")
        with parquet.ParquetFile(self._path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for values in batch.to_pylist():
                    yield Row(number, values)
                    number += 1
