"""The shared nouns: a row, a source of rows, and why one row cannot be answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Row:
    """number: its place in the data, from 0; people are told it from 1. problem: why it cannot be read, a sentence."""

    number: int
    values: dict[str, Any]
    problem: str | None = None


class Files(Protocol):
    def read(self, name: str) -> bytes:
        """Blocks. Raises BadRow."""
        ...


class Source(Protocol):
    """Rows that can be read again and again, each time the same and in the same order. Every method blocks."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All names that any row has."""
        ...

    @property
    def num_rows(self) -> int: ...

    @property
    def identity(self) -> str:
        """Another one when the data are others."""
        ...

    @property
    def files(self) -> Files | None:
        """Those that columns name."""
        ...

    def rows(self) -> Iterator[Row]: ...

    def arrow_schema(self) -> Any:
        """The `pyarrow.Schema` of the columns, None where they have no types."""
        ...

    def label_names(self, column: str) -> tuple[str, ...] | None:
        """What the numbers of a column of class labels stand for."""
        ...


class BadRow(Exception):
    """This row cannot be answered, the others can; `str(error)` is the sentence that says why."""


def file_columns(source: Source) -> set[str]:
    """Those that hold whole files: structs of `bytes` and `path`."""
    schema = source.arrow_schema()
    if schema is None:
        return set()
    return {field.name for field in schema if {"bytes", "path"} == {child.name for child in _children(field.type)}}


def _children(kind: Any) -> list[Any]:
    return [kind.field(index) for index in range(kind.num_fields)]
