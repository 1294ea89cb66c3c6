"""Files that are made of a model's files once on this machine (exports, say), kept in the cache folder.

An entry is a folder named after everything it depends on. It is written beside its place, flushed to the disk and
renamed, with a manifest of sizes and hashes as its last file: whatever ends a process half-way, no entry is ever used
that is not whole. A lock file per entry makes processes that want the same one wait for the first. Entries are never
removed by themselves, only by `pipeserve rm`; the folder may be deleted whenever no process makes one.

Workers make entries, the command line lists, publishes and removes them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.errors import ModelFailed

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_PART = ".part-"  # in the name of a folder that is being written
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM_WORDS = ("no space left", "disk quota exceeded")  # of libraries that do not say it by number


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What an entry depends on: another value anywhere is another entry.

    source: the `fingerprint` of the model's files. options: dtype, quantization and whatever else is
    chosen. versions: of `app/installed.py`.
    """

    source: str
    task: str
    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its folder: readable, and different where anything is."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:20]
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{self.source.partition('@')[0]}-{self.task}")[-80:].strip("-.")
        return f"{readable}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A whole entry. facts: what whoever made it wants to be known, the same for all who use it."""

    folder: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kept(Made):
    """An entry as its manifest tells it; its files are not looked at. made_at: Unix time."""

    recipe: Recipe
    num_bytes: int
    made_at: float


class MadeFiles:
    """Used by any number of processes at once."""

    def __init__(self, cache_dir: Path) -> None:
        self._root = cache_dir / "made"

    def get(self, recipe: Recipe, make: Callable[[Path], Mapping[str, Any]]) -> Made:
        """The entry, made if it is not there or not whole. Waits for another process that makes it.

        make: writes into the empty folder that it is given; its answer becomes the facts (JSON). What it raises leaves
        nothing behind. Raises ModelFailed where the cache folder cannot be written or is full.
        """
        place = self._root / recipe.backend / recipe.name
        try:
            if not os.access(place, os.W_OK) and (made := _whole(place)) is not None:
                return made  # a cache that somebody else filled and made read-only
            place.parent.mkdir(parents=True, exist_ok=True)
            with _locked(place):
                made = _whole(place)
                if made is not None:
                    return made
                if place.exists():
                    logger.warning("%s is damaged: it is made again", place)
                _clean(place.parent)
                return self._make(recipe, place, make)
        except OSError as error:
            raise ModelFailed(self._sentence(error)) from error

    def all(self) -> list[Kept]:
        """Every entry that has a manifest, those made last first."""
        manifests = self._root.glob(f"*/*/{MANIFEST}")
        found = (_kept(path.parent) for path in manifests if _PART not in path.parent.name)
        return sorted(filter(None, found), key=lambda kept: kept.made_at, reverse=True)

    def remove(self, kept: Kept) -> None:
        """Raises OSError."""
        with _locked(kept.folder):
            shutil.rmtree(kept.folder)

    def _make(self, recipe: Recipe, place: Path, make: Callable[[Path], Mapping[str, Any]]) -> Made:
        part = Path(tempfile.mkdtemp(prefix=f"{place.name}{_PART}", dir=place.parent))
        try:
            facts = dict(make(part))
            files = {name: {"size": size, "sha256": digest} for name, size, digest in _flushed(part)}
            manifest = {"recipe": asdict(recipe), "files": files, "facts": facts}
            _write(part / MANIFEST, json.dumps(manifest, indent=1).encode())
            shutil.rmtree(place, ignore_errors=True)
            part.rename(place)
            _flush(place.parent)
        except BaseException as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, Exception) and is_out_of_room(error):
                raise ModelFailed(self._no_room()) from error
            raise
        return Made(folder=place, facts=facts)

    def _sentence(self, error: OSError) -> str:
        if is_out_of_room(error):
            return self._no_room()
        return (
            f"What is made of the model's files cannot be kept in {self._root}: {error.strerror or error}."
            " Give --cache-dir a folder that can be written."
        )

    def _no_room(self) -> str:
        return (
            f"The disk of {self._root} is full: what is made of the model's files needs room there."
            " Free some, or give --cache-dir another folder."
        )


def is_out_of_room(error: BaseException | None) -> bool:
    """Whether a full disk is what went wrong, in this error or in one that it came from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        if any(words in str(error).lower() for words in _NO_ROOM_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Only this process may make this entry. The lock ends with the process; its file stays, for removing it would
    let two in."""
    with _lock_of(place).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.lock")


def _clean(folder: Path) -> None:
    """Remove what processes left that ended half-way: folders whose entry nobody holds the lock of, or only we."""
    for part in folder.glob(f"*{_PART}*"):
        place = folder / part.name.partition(_PART)[0]
        try:
            with _lock_of(place).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(part, ignore_errors=True)
        except BlockingIOError:
            continue


def _whole(place: Path) -> Made | None:
    """The entry, if all of its files are there as they were written."""
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
        for name, written in manifest["files"].items():
            path = place / name
            if path.stat().st_size != written["size"] or _sha256(path) != written["sha256"]:
                return None
        return Made(folder=place, facts=dict(manifest["facts"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _kept(place: Path) -> Kept | None:
    """None: what is there is damaged, or somebody else's."""
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
        return Kept(
            folder=place,
            facts=dict(manifest["facts"]),
            recipe=Recipe(**manifest["recipe"]),
            num_bytes=sum(written["size"] for written in manifest["files"].values()),
            made_at=(place / MANIFEST).stat().st_mtime,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _flushed(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Name, size and hash of each file below it, once it is on the disk."""
    for path in sorted(folder.rglob("*")):
        _flush(path)
        if path.is_file():
            yield str(path.relative_to(folder)), path.stat().st_size, _sha256(path)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _flush(path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Of a file its content, of a folder its names."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _sha256(path: Path) -> str:
    """1.4 GB/s where measured: a tenth of what loading the same file takes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
