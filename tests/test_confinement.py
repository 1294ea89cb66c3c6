"""What a process that has bounds cannot do: tried in one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.worker.test_confinement import landlock_version

pytestmark = pytest.mark.skipif(landlock_version() < 4, reason="needs Linux 6.7 with Landlock")

TRYING = """
import errno, json, os, pathlib, socket, subprocess, sys
from app.confinement import Bounds, confine

def tried(act):
    try:
        act()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]

def opened(family, kind=socket.SOCK_STREAM, protocol=0):
    return tried(lambda: socket.socket(family, kind, protocol).close())

own, others, port, other_port = (json.loads(part) for part in sys.argv[1:])
own, others = pathlib.Path(own), pathlib.Path(others)
readable = [pathlib.Path(path) for path in (sys.prefix, sys.base_prefix, others / "read")]
bounds = Bounds(reading=[*readable, others / "one.txt", others / "missing"], writing=own, port=port)
confine("the test", bounds)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    own, others = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("others")
    (others / "read").mkdir()
    for name in ("one.txt", "secret.txt", "read/two.txt"):
        (others / name).write_text("x")
    (own / "link").symlink_to(others / "secret.txt")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [one.getsockname()[1] for one in (server, other)]
        return run(TRIED, str(own), str(others), *ports)


def run(code: str, *arguments: object, **variables: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", TRYING + code, *map(json.dumps, arguments)],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


TRIED = """
listener = socket.socket(socket.AF_UNIX)
found = {
    "read": [tried(lambda: (others / name).read_text()) for name in ("one.txt", "read/two.txt")],
    "listed": tried(lambda: list((others / "read").iterdir())),
    "written": [tried(lambda: (others / name).write_text("y")) for name in ("one.txt", "read/two.txt", "read/new")],
    "secret": [
        tried((others / "secret.txt").read_text),
        tried((own / "link").read_text),
        tried(lambda: list(others.iterdir())),
    ],
    "own": [
        tried(lambda: (own / "folder").mkdir()),
        tried(lambda: (own / "folder" / "file").write_text("x")),
        tried(lambda: (own / "folder" / "file").write_text("y")),
        tried(lambda: (own / "folder" / "file").rename(own / "file")),
        tried((own / "file").read_text),
        tried((own / "file").unlink),
        tried(lambda: listener.bind(str(own / "socket"))),
    ],
    "null": tried(lambda: open(os.devnull, "w").write("x")),
    "program": tried(lambda: subprocess.run([sys.executable, "-c", ""])),
    "port": tried(lambda: socket.create_connection(("127.0.0.1", port)).close()),
    "other port": tried(lambda: socket.create_connection(("127.0.0.1", other_port)).close()),
    "listening": tried(lambda: socket.create_server(("127.0.0.1", 0)).close()),
    "tcp": [opened(socket.AF_INET), opened(socket.AF_INET6)],
    "others": [
        opened(socket.AF_INET, socket.SOCK_DGRAM),
        opened(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC),
        opened(socket.AF_INET, socket.SOCK_RAW),
        opened(socket.AF_INET, socket.SOCK_STREAM, 262),
        opened(socket.AF_PACKET, socket.SOCK_RAW),
        opened(socket.AF_VSOCK),
    ],
}
print(json.dumps(found))
"""


def test_only_what_it_was_told_is_read(found: dict[str, Any]) -> None:
    """A file, or all of a folder; nothing by a link to elsewhere, and nothing is written there."""
    assert found["read"] == ["done", "done"] and found["listed"] == "done"
    assert found["written"] == found["secret"] == ["EACCES"] * 3


def test_own_folder_is_written(found: dict[str, Any]) -> None:
    """Folders, files, a socket; and what is to be lost."""
    assert found["own"] == ["done"] * 7 and found["null"] == "done"


def test_no_program_is_started(found: dict[str, Any]) -> None:
    """Not even Python, whose files may be read."""
    assert found["program"] == "EACCES"


def test_only_one_port_is_reached(found: dict[str, Any]) -> None:
    """By TCP; not by MPTCP, which Landlock lets pass, nor by any other kind of socket, and nothing is offered."""
    assert found["port"] == "done" and found["tcp"] == ["done", "done"]
    assert found["other port"] == found["listening"] == "EACCES"
    assert found["others"] == ["EACCES"] * 6


def test_system_without_the_parts_is_served_without(tmp_path: Path) -> None:
    """Here libseccomp; and Landlock, of which the kernel takes 16 layers."""
    (tmp_path / "libseccomp.so.2").write_text("this is no library")
    code = """
for _ in range(16):
    confine("the test", bounds)
print(json.dumps({"udp": opened(socket.AF_INET, socket.SOCK_DGRAM)}))
"""
    assert run(code, str(tmp_path), str(tmp_path), 1, 2, LD_LIBRARY_PATH=str(tmp_path)) == {"udp": "done"}
