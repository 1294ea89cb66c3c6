"""What was answered so far: an SQLite file beside the output, from which a run goes on after any end.

An answer that is in it is in the output exactly once; rows that were being computed when the process was killed are
computed again. One process at a time writes to it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from app.errors import InvalidInput

SUFFIX = ".part"
_COMMIT_S = 0.5
_COMMIT_ROWS = 1000
_LAYOUT = "1"


@dataclass(frozen=True, slots=True)
class Entry:
    """Of the row `number`: the answer as JSON, or the problem."""

    number: int
    answer: bytes | None
    problem: str | None


class Journal:
    """identity: what the answers depend on, by the words that name each in a sentence. Raises InvalidInput where the
    file was begun with something else, or another process has it."""

    def __init__(
        self, path: Path, identity: Mapping[str, str], num_rows: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._clock = clock
        self._num_new = 0
        self._committed_at = clock()
        try:
            # Threads of the process take turns: rows are answered in one, and written in another.
            self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise InvalidInput(f"{path}: the journal cannot be opened: {error}.") from None
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a kill loses nothing; a power cut the last half second
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("CREATE TABLE IF NOT EXISTS run (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
            self._db.execute("CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, answer BLOB, problem TEXT)")
            self._agree({"layout of the journal": _LAYOUT, **identity})
            self._db.execute("COMMIT")
            self.done = self._find_done(num_rows)
        except sqlite3.Error as error:
            self._db.close()
            raise InvalidInput(f"{path}: {_reason(error)}.") from None
        except InvalidInput:
            self._db.close()
            raise
        self.num_done = sum(self.done)
        self.num_problems = int(self._db.execute("SELECT count(*) FROM rows WHERE problem IS NOT NULL").fetchone()[0])
        self._db.execute("BEGIN")
        self._is_open = True

    def _agree(self, identity: Mapping[str, str]) -> None:
        known = dict(self._db.execute("SELECT name, value FROM run"))
        for name, value in identity.items():
            if name in known and known[name] != value:
                raise InvalidInput(
                    f"{self.path} was begun with other {name}: run it as before, or say --restart to begin anew."
                )
        self._db.executemany("INSERT OR IGNORE INTO run VALUES (?, ?)", identity.items())

    def _find_done(self, num_rows: int) -> bytearray:
        """One byte a row: 1 where it is answered or set aside."""
        done = bytearray(num_rows)
        for (number,) in self._db.execute("SELECT number FROM rows"):
            done[number] = 1
        return done

    def add(self, entries: list[Entry]) -> None:
        self._db.executemany(
            "INSERT INTO rows VALUES (?, ?, ?)", [(one.number, one.answer, one.problem) for one in entries]
        )
        for one in entries:
            self.done[one.number] = 1
            self.num_problems += one.problem is not None
        self.num_done += len(entries)
        self._num_new += len(entries)
        now = self._clock()
        if self._num_new >= _COMMIT_ROWS or now - self._committed_at >= _COMMIT_S:
            self.commit()

    def commit(self) -> None:
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")
        self._num_new = 0
        self._committed_at = self._clock()

    def entries(self) -> Iterator[Entry]:
        """In the order of the rows."""
        for number, answer, problem in self._db.execute("SELECT number, answer, problem FROM rows ORDER BY number"):
            yield Entry(number, answer, problem)

    def close(self) -> None:
        """What was added is kept."""
        if self._is_open:
            self._is_open = False
            self._db.execute("COMMIT")
            self._db.close()

    def delete(self) -> None:
        self.close()
        forget(self.path)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def journal_of(out: Path) -> Path:
    return out.with_name(out.name + SUFFIX)


def forget(path: Path) -> None:
    """Delete a journal, if there is one."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _reason(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "another process is writing this journal"
    return f"this is no journal of ours ({error}): say --restart to begin anew"
