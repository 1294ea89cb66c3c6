"""A folder of images, sounds or videos as a table, in the manner of the `datasets` library's image folder.

Columns: `file`, relative to the folder; `label`, the name of its first subfolder, where files are in some. A
`metadata.csv`, `metadata.jsonl` or `metadata.parquet` with a column `file_name` is the table instead.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from app.dataset.files import FolderFiles
from app.dataset.rows import Files, Row
from app.errors import InvalidInput

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SOUNDS = (".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".weba")
VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".webm")
MEDIA = frozenset((*IMAGES, *SOUNDS, *VIDEOS))
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE, FILE_NAME, LABEL = "file", "file_name", "label"


class MediaFolder:
    """Hidden files and folders are left out. In the order of the paths' names."""

    def __init__(self, folder: Path) -> None:
        self.files: Files | None = FolderFiles(folder)
        self._root = folder

    @cached_property
    def _files(self) -> list[str]:
        found = [path.relative_to(self._root).as_posix() for path in _walk(self._root)]
        if not found:
            raise InvalidInput(f"{self._root}: there is no image, sound, video or table in this folder.")
        return sorted(found)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        has_subfolders = any("/" in name for name in self._files)
        return (FILE, LABEL) if has_subfolders else (FILE,)

    @property
    def num_rows(self) -> int:
        return len(self._files)

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for name in self._files:
            state = (self._root / name).stat()
            digest.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        return f"{self._root.resolve()} {digest.hexdigest()}"

    def rows(self) -> Iterator[Row]:
        for number, name in enumerate(self._files):
            values: dict[str, Any] = {FILE: name}
            if LABEL in self.columns:
                values[LABEL] = name.partition("/")[0] if "/" in name else None
            yield Row(number, values)

    def arrow_schema(self) -> Any:
        return None

    def label_names(self, column: str) -> tuple[str, ...] | None:
        return None


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place) / name
            if path.suffix.lower() in MEDIA and not name.startswith("."):
                yield path
