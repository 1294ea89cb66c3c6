"""Pictures and sounds that a model makes, as files beside the table that names them: a folder which `--data`, and the
`datasets` library, read again."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import msgspec

from app.dataset.media_folder import FILE_NAME, METADATA
from app.errors import BackendFailed
from app.tasks.base import Task

_FIELDS = {
    "depth-estimation": ("depth", ".png"),
    "image-segmentation": ("mask", ".png"),
    "image-to-image": ("image", ".png"),
    "mask-generation": ("mask", ".png"),
    "text-to-audio": ("audio", ".wav"),
}
"""Where a task's answer has files, as base64, and of which kind they are."""

DEFAULT_MANIFEST = "metadata.jsonl"


def is_manifest(out: Path) -> bool:
    """Whether files that are made go beside it."""
    return out.name in METADATA


def makes_files(task: Task) -> bool:
    return task.name in _FIELDS


class MadeFiles:
    """Named after the number of their row, from 1: made again, they take the place of the same. Every method blocks."""

    def __init__(self, folder: Path, task: Task) -> None:
        self._folder = folder
        self._field, self._ending = _FIELDS[task.name]

    def keep(self, number: int, answer: bytes) -> bytes:
        """The answer to a row, with `file_name` in the place of each file, which is on the disk then."""
        row = _Row(self._folder, f"{number + 1:06d}", self._field, self._ending)
        return msgspec.json.encode(row.without_files(msgspec.json.decode(answer)))


class _Row:
    def __init__(self, folder: Path, stem: str, field: str, ending: str) -> None:
        self._folder = folder
        self._stem = stem
        self._field = field
        self._ending = ending
        self._num_files = 0

    def without_files(self, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(one, dict) for one in value):
            return [self.without_files(one) for one in value]
        if isinstance(value, dict):
            return {FILE_NAME if name == self._field else name: self._kept(name, one) for name, one in value.items()}
        return value

    def _kept(self, name: str, value: Any) -> Any:
        if name != self._field:
            return self.without_files(value)
        self._num_files += 1
        more = "" if self._num_files == 1 else f"-{self._num_files}"
        path = self._folder / f"{self._stem}{more}{self._ending}"
        try:
            content = base64.b64decode(value, validate=True)
        except (TypeError, ValueError):
            raise BackendFailed(f"The answer's {name} is no file in base64.") from None
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before the journal says that it is there
        return path.name
