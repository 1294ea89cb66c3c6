"""The journal: what is in it stays, in the order of the rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.dataset.journal import Entry, Journal, forget
from app.errors import InvalidInput

DATA = {"data": "a.csv 1 2", "model": "m"}


def test_what_was_added_is_there_again_in_order(tmp_path: Path) -> None:
    """Answers and problems."""
    with Journal(tmp_path / "a.part", DATA, 5) as journal:
        journal.add([Entry(3, b'"x"', None), Entry(0, None, "bad")])
    with Journal(tmp_path / "a.part", DATA, 5) as journal:
        assert list(journal.done) == [1, 0, 0, 1, 0]
        assert (journal.num_done, journal.num_problems) == (2, 1)
        journal.add([Entry(1, b"1", None)])
        assert list(journal.entries()) == [Entry(0, None, "bad"), Entry(1, b"1", None), Entry(3, b'"x"', None)]
        journal.delete()
    assert list(tmp_path.iterdir()) == []


def test_kill_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """A process that writes until it gets SIGKILL."""
    script = (
        "import sys; from pathlib import Path; from app.dataset.journal import Entry, Journal\n"
        "journal = Journal(Path(sys.argv[1]), {}, 10**6)\n"
        "for number in range(10**6):\n"
        "    journal.add([Entry(number, b'1', None)])\n"
        "    if number % 100 == 99: journal.commit(); print(number, flush=True)\n"
    )
    path = tmp_path / "a.part"
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(20)][-1]
        os.kill(writer.pid, signal.SIGKILL)
    with Journal(path, {}, 10**6) as journal:
        assert journal.num_done > told
        assert all(journal.done[: told + 1])


def test_another_run_is_refused_with_what_is_different(tmp_path: Path) -> None:
    """And nothing in the file is touched by that."""
    path = tmp_path / "a.part"
    with Journal(path, DATA, 5) as journal:
        journal.add([Entry(0, b"1", None)])
    with pytest.raises(InvalidInput, match=r"begun with other model: .*--restart"):
        Journal(path, {**DATA, "model": "n"}, 5)
    with Journal(path, DATA, 5) as journal:
        assert journal.num_done == 1
        with pytest.raises(InvalidInput, match="another process is writing"):
            Journal(path, DATA, 5)
    forget(path)
    with Journal(path, {**DATA, "model": "n"}, 5) as journal:
        assert journal.num_done == 0


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """It might be anybody's."""
    path = tmp_path / "a.part"
    path.write_text("something else, and long enough to be read as a header of a data base" * 10)
    with pytest.raises(InvalidInput, match="no journal of ours"):
        Journal(path, DATA, 5)
    assert path.read_text().startswith("something else")
