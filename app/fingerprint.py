"""Which files a model has, in one word. The same for a copy of them; asked by what is made of a model's files or
measured with them, in both kinds of process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

_SUFFIXES = (".json", ".safetensors", ".bin", ".py", ".onnx", ".onnx_data", ".data", ".xml", ".txt", ".model")
"""What may take part in an answer: no README, no pictures."""
_WHOLE_BYTES = 2**20  # files up to here are read whole
_END_BYTES = 2**16
_PAGE_BYTES = 2**12
_NUM_PAGES = 256


def fingerprint(folder: Path) -> str:
    """NAME@COMMIT where the folder is a snapshot of the Hub's cache, whose files never change; else FOLDER@DIGEST, of
    names, sizes and contents. Not of times, which a copy changes. Raises OSError.

    Of a large file both ends are read and 256 pages between them, 1.1 MiB in all: a training changes a whole layer or
    more, or a head, which is at an end.
    """
    if folder.parent.name == "snapshots":
        return f"{folder.parent.parent.name.removeprefix('models--')}@{folder.name}"
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.suffix in _SUFFIXES and not any(part.startswith(".") for part in name.parts) and path.is_file():
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            for content in _samples(path):
                digest.update(content)
    return f"{folder.name}@{digest.hexdigest()}"


def _samples(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        if size <= _WHOLE_BYTES:
            yield file.read()
            return
        yield file.read(_END_BYTES)
        stride = (size - 2 * _END_BYTES) // _NUM_PAGES
        for page in range(_NUM_PAGES):
            file.seek(_END_BYTES + page * stride)
            yield file.read(min(_PAGE_BYTES, stride))
        file.seek(size - _END_BYTES)
        yield file.read(_END_BYTES)
