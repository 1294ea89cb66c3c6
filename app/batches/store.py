"""What there is of files and batches, on a disk: a folder of files, and an SQLite database that knows them.

One server has a folder at a time. What is committed survives the end of the process, however it ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from app.batches.records import UNFINISHED, Batch, Result, StoredFile
from app.errors import Unavailable

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (id TEXT PRIMARY KEY, owner TEXT NOT NULL, created_at INTEGER NOT NULL,
    expires_at INTEGER, num_bytes INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, owner TEXT NOT NULL, created_at INTEGER NOT NULL,
    is_finished INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS results (batch TEXT NOT NULL, line INTEGER NOT NULL, has_failed INTEGER NOT NULL,
    text BLOB NOT NULL, PRIMARY KEY (batch, line)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_by_owner ON files (owner, created_at);
CREATE INDEX IF NOT EXISTS batches_by_owner ON batches (owner, created_at);
"""
_NEWEST_LAST = "ORDER BY created_at, rowid"


def make_id(prefix: str) -> str:
    """Not to be guessed: on a server without keys, who knows the id of a file may read it."""
    return f"{prefix}{secrets.token_hex(16)}"


class Store:
    """Every method blocks, and raises sqlite3.Error and OSError for what is wrong with the disk."""

    def __init__(self, folder: Path) -> None:
        """Raises Unavailable where another server has the folder."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = _locked(folder / "lock")
        self._database = sqlite3.connect(folder / "batches.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(_SCHEMA)
        self._remove_strays()

    def close(self) -> None:
        self._database.close()
        self._lock.close()

    def _remove_strays(self) -> None:
        """Parts of files that were being written when the server ended."""
        known = {name for (name,) in self._database.execute("SELECT id FROM files")}
        for path in self._folder.iterdir():
            if path.name.startswith("file-") and path.name not in known:
                path.unlink()

    # Files

    def path_of(self, file_id: str) -> Path:
        return self._folder / file_id

    def add_file(self, file: StoredFile) -> None:
        """Its content is at `path_of` already."""
        with self._database:
            self._insert_file(file)

    def _insert_file(self, file: StoredFile) -> None:
        row = (file.id, file.owner, file.created_at, file.expires_at, file.num_bytes, msgspec.json.encode(file))
        self._database.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", row)

    def files(self, owner: str) -> list[StoredFile]:
        """The newest last."""
        rows = self._database.execute(f"SELECT record FROM files WHERE owner = ? {_NEWEST_LAST}", (owner,))
        return [msgspec.json.decode(record, type=StoredFile) for (record,) in rows]

    def file(self, file_id: str, owner: str) -> StoredFile | None:
        """None where it is not, or is another's."""
        rows = self._database.execute("SELECT record FROM files WHERE id = ? AND owner = ?", (file_id, owner))
        found = rows.fetchone()
        return None if found is None else msgspec.json.decode(found[0], type=StoredFile)

    def remove_file(self, file_id: str) -> None:
        self._database.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.path_of(file_id).unlink(missing_ok=True)

    def num_bytes(self) -> int:
        """Of all files."""
        (total,) = self._database.execute("SELECT coalesce(sum(num_bytes), 0) FROM files").fetchone()
        return int(total)

    def expire(self, now: int, *, kept: Collection[str]) -> None:
        """Remove files whose time is over. kept: those that are in use."""
        rows = self._database.execute("SELECT id FROM files WHERE expires_at <= ?", (now,)).fetchall()
        for (file_id,) in rows:
            if file_id not in kept:
                self.remove_file(file_id)

    # Batches

    def put_batch(self, batch: Batch) -> None:
        """A new one, or what became of it."""
        row = (batch.id, batch.owner, batch.created_at, batch.status not in UNFINISHED, msgspec.json.encode(batch))
        self._database.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET is_finished = excluded.is_finished, record = excluded.record",
            row,
        )

    def batch(self, batch_id: str, owner: str) -> Batch | None:
        """None where it is not, or is another's."""
        rows = self._database.execute("SELECT record FROM batches WHERE id = ? AND owner = ?", (batch_id, owner))
        found = rows.fetchone()
        return None if found is None else msgspec.json.decode(found[0], type=Batch)

    def batches(self, owner: str) -> list[Batch]:
        """The newest last."""
        rows = self._database.execute(f"SELECT record FROM batches WHERE owner = ? {_NEWEST_LAST}", (owner,))
        return [msgspec.json.decode(record, type=Batch) for (record,) in rows]

    def unfinished(self) -> list[Batch]:
        """Everybody's, the newest last."""
        rows = self._database.execute(f"SELECT record FROM batches WHERE NOT is_finished {_NEWEST_LAST}")
        return [msgspec.json.decode(record, type=Batch) for (record,) in rows]

    # Results

    def put_results(self, results: Sequence[tuple[str, Result]]) -> None:
        """All or none. Of batches, by their ids."""
        with self._transaction():
            self._database.executemany(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)",
                [(batch_id, one.line, one.has_failed, one.text) for batch_id, one in results],
            )

    def answered(self, batch_id: str) -> dict[int, bool]:
        """Line -> whether its request failed."""
        rows = self._database.execute("SELECT line, has_failed FROM results WHERE batch = ?", (batch_id,))
        return {line: bool(has_failed) for line, has_failed in rows}

    def finish(self, batch: Batch, files: Iterable[StoredFile]) -> None:
        """The batch as it ended, with the files of its answers, which have been written: from now on they are there,
        and its results are not."""
        with self._transaction():
            for file in files:
                self._insert_file(file)
            self.put_batch(batch)
            self._database.execute("DELETE FROM results WHERE batch = ?", (batch.id,))

    def write_results(self, batch_id: str, *, has_failed: bool, path: Path, more: Iterable[bytes] = ()) -> int:
        """Into a file, in the order of their lines, and what else is to stand behind them; its bytes. No file is there
        where there is nothing to write."""
        rows = self._database.execute(
            "SELECT text FROM results WHERE batch = ? AND has_failed = ? ORDER BY line", (batch_id, has_failed)
        )
        num_bytes = 0
        with path.open("wb") as file:
            for text in _all(rows, more):
                num_bytes += file.write(text) + file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
        if not num_bytes:
            path.unlink()
        return num_bytes

    def _transaction(self) -> sqlite3.Connection:
        """As a context: what is done within it is committed at its end, or not at all."""
        self._database.execute("BEGIN")
        return self._database


def _all(rows: Iterable[tuple[bytes]], more: Iterable[bytes]) -> Iterator[bytes]:
    for (text,) in rows:
        yield text
    yield from more


def _locked(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Unavailable(
            f"Files and batches are with another server, which has {path.parent}; --files-dir gives this one its own.",
            retry_after_s=30,
        ) from None
    return file


class StoreThread:
    """A store on a thread of its own, opened at its first use: a server that nobody hands files has no folder for them.

    Owned by the event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store: Store | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")

    @property
    def has_been_used(self) -> bool:
        """By this server, or one before it."""
        return self._folder.exists()

    def path_of(self, file_id: str) -> Path:
        return self._folder / file_id

    async def do(self, call: Callable[[Store], T]) -> T:
        """Raises what it raises; Unavailable where another server has the folder, or the disk does not do it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, call)

    def _do(self, call: Callable[[Store], T]) -> T:
        try:
            if self._store is None:
                self._store = Store(self._folder)
            return call(self._store)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(
                f"Files and batches cannot be kept in {self._folder}: {error}.", retry_after_s=10
            ) from error

    async def close(self) -> None:
        """What was begun is ended first."""

        def close() -> None:
            if self._store is not None:
                self._store.close()
                self._store = None

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()
