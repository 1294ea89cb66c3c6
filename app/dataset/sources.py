"""What `--data` names -> a source of rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from app.dataset.hub import Part, is_saved, load_hub, load_saved
from app.dataset.media_folder import FILE_NAME, METADATA, MediaFolder
from app.dataset.rows import Row, Source
from app.dataset.tables import TABLE_SUFFIXES, suffix_of, table
from app.errors import InvalidInput

WHOLE = Part()


def open_source(data: str, part: Part = WHOLE) -> Source:
    """Blocks. Raises InvalidInput, NotServed, NotAvailable."""
    path = Path(data).expanduser()
    if path.exists():
        source = _open_here(path, part)
    elif path.is_absolute() or data.startswith((".", "~")) or suffix_of(path) in TABLE_SUFFIXES:
        raise InvalidInput(f"{data}: there is no such file or folder.")
    else:
        source = load_hub(data, part)
    return source if part.limit is None or part.streams else First(source, part.limit)


def _open_here(path: Path, part: Part) -> Source:
    asked = {"--config": part.config, "--revision": part.revision, "--streaming": part.streams}
    if not (path.is_dir() and is_saved(path)):
        asked["--split"] = part.split
    if wrong := next((name for name, value in asked.items() if value), None):
        raise InvalidInput(f"{wrong}: {path} is here, and has none; it is for data sets on the Hub.")
    if not path.is_dir():
        return table(path)
    return load_saved(path, part.split) if is_saved(path) else _open_folder(path)


def _open_folder(folder: Path) -> Source:
    metadata = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    if metadata is not None:
        source = table(metadata)
        if FILE_NAME not in source.columns:
            raise InvalidInput(f'{metadata}: it has no column "{FILE_NAME}", which names the files.')
        return source
    shards = sorted(path for path in folder.iterdir() if path.is_file() and suffix_of(path) in TABLE_SUFFIXES)
    return Shards([table(path) for path in shards]) if shards else MediaFolder(folder)


class Shards:
    """Several tables with the same columns, one after the other in the order of their names."""

    def __init__(self, tables: Sequence[Source]) -> None:
        self._tables = tables
        self.files = tables[0].files

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for one in self._tables for name in one.columns))

    @cached_property
    def num_rows(self) -> int:
        return sum(one.num_rows for one in self._tables)

    @cached_property
    def identity(self) -> str:
        return "\n".join(one.identity for one in self._tables)

    def rows(self) -> Iterator[Row]:
        every = itertools.chain.from_iterable(one.rows() for one in self._tables)
        for number, row in enumerate(every):
            yield Row(number, row.values, row.problem)

    def arrow_schema(self) -> Any:
        schemas = [one.arrow_schema() for one in self._tables]
        return schemas[0] if all(one == schemas[0] for one in schemas) else None

    def label_names(self, column: str) -> tuple[str, ...] | None:
        return None


class First:
    """The first rows of a source."""

    def __init__(self, source: Source, num_rows: int) -> None:
        self._source = source
        self._limit = num_rows
        self.files = source.files
        self.columns = source.columns
        self.identity = source.identity

    @cached_property
    def num_rows(self) -> int:
        return min(self._limit, self._source.num_rows)

    def rows(self) -> Iterator[Row]:
        return itertools.islice(self._source.rows(), self._limit)

    def arrow_schema(self) -> Any:
        return self._source.arrow_schema()

    def label_names(self, column: str) -> tuple[str, ...] | None:
        return self._source.label_names(column)
