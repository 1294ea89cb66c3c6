"""Start and stop of a server process, with real signals."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest

from app.api.server import OWN_FILES, UNSENT_BYTES, bind, url_of, why_not_bound

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CLASSIFY = "/v1/text-classification"
BODY = b'{"inputs": "a"}'


class ServerProcess:
    """`tests.api.fake_server` on a free port."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.api.fake_server", "0"]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(r"serving on (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line
        self.url = found[1]

    def log(self) -> str:
        """All of it, once the process has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        assert self.process.stdout is not None and self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def process() -> Iterator[ServerProcess]:
    started = ServerProcess()
    yield started
    started.end()


def _is_ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz").status_code == 200


def _in_flight(url: str) -> float:
    found = re.search(r"^pipeserve_open_requests (\S+)", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    assert found
    return float(found[1]) - 1  # the scrape itself is one


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_ends_with_zero(
    process: ServerProcess, wait_until: Callable[..., None], number: signal.Signals
) -> None:
    """Not ready and 503 to new work, over a listener that is still open; the running request is answered."""
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(httpx.post, f"{process.url}{CLASSIFY}", content=BODY, timeout=30)
        wait_until(lambda: _in_flight(process.url) == 1)
        process.process.send_signal(number)
        wait_until(lambda: not _is_ready(process.url))
        refused = httpx.post(f"{process.url}{CLASSIFY}", content=BODY)
        assert (refused.status_code, refused.json()["error_type"]) == (503, "draining")
        assert refused.headers["connection"] == "close" and "retry-after" in refused.headers
        assert httpx.get(f"{process.url}/livez").status_code == 200
        process.process.send_signal(signal.SIGUSR1)
        assert running.result().status_code == 200
    assert process.process.wait(20) == 0
    log = process.log()
    assert "Traceback" not in log
    assert re.search(r"INFO pipeserve.access POST /v1/text-classification 200 .*model=reviews", log)


def test_second_signal_ends_at_once(process: ServerProcess, wait_until: Callable[..., None]) -> None:
    """Whatever is running."""
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(httpx.post, f"{process.url}{CLASSIFY}", content=BODY, timeout=30)
        wait_until(lambda: _in_flight(process.url) == 1)
        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not _is_ready(process.url))
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(20) == 128 + signal.SIGTERM
        assert isinstance(running.exception(), httpx.HTTPError)


def test_closed_terminal_ends_the_server() -> None:
    """Whoever started it there sees nothing of it any more; any other SIGHUP asks for a reload."""
    ours, theirs = os.openpty()
    command = ["setsid", "--ctty", sys.executable, "-m", "tests.api.fake_server", "0"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
        os.close(theirs)
        assert it.stdout is not None and it.stderr is not None
        assert it.stdout.readline().startswith(b"serving on")
        it.send_signal(signal.SIGHUP)
        assert b"reloaded" in it.stderr.readline()
        os.close(ours)
        assert it.wait(20) == 0
        assert b"SIGHUP: draining" in it.stderr.read()


def test_taken_port_is_a_sentence() -> None:
    """And a status that is not zero."""
    with bind("127.0.0.1", 0) as taken:
        port = url_of(taken).rpartition(":")[2]
        ended = subprocess.run(
            [sys.executable, "-m", "tests.api.fake_server", port], cwd=REPOSITORY, capture_output=True, text=True
        )
    assert ended.returncode == 1
    said = f"cannot listen on 127.0.0.1:{port}: Address already in use. Another program has it; --port names another"
    assert ended.stderr.strip().startswith(said)


def test_unread_answers_wait_in_the_server_not_in_the_kernel() -> None:
    """Connections have the listener's limit, so that a client that does not read is noticed early."""
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


@pytest.mark.parametrize(
    ("limits", "wanted", "room", "limit"),
    [
        ((300, 2000), 1000, 1000, 1000 + OWN_FILES),  # raised as far as is needed
        ((300, 500), 1000, 500 - OWN_FILES, 500),  # as far as it goes
        ((1900, 2000), 1000, 1000, 1900),  # never lowered
    ],
)
def test_limit_of_open_files_is_raised_for_connections(
    limits: tuple[int, int], wanted: int, room: int, limit: int
) -> None:
    """In a process of its own: a hard limit is not raised again."""
    code = (
        "import resource; from app.api.server import make_room_for; kind = resource.RLIMIT_NOFILE;"
        f"resource.setrlimit(kind, {limits}); print(make_room_for({wanted}), resource.getrlimit(kind)[0])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(room), str(limit)]


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("192.0.2.1", "Cannot assign requested address. This machine does not have that address; --host 0.0.0.0"),
        ("no such host", "--host is an address of this machine, or a name for one."),
    ],
)
def test_address_that_cannot_be_had_is_a_sentence(host: str, told: str) -> None:
    """With what to do."""
    with pytest.raises(OSError) as caught:
        bind(host, 0)
    assert told in why_not_bound(host, 0, caught.value)


def test_port_of_root_is_a_sentence() -> None:
    """For everybody else."""
    error = PermissionError(errno.EACCES, "Permission denied")
    assert why_not_bound("0.0.0.0", 80, error) == (
        "cannot listen on 0.0.0.0:80: Permission denied. Ports below 1024 are for root, or for who has"
        " CAP_NET_BIND_SERVICE; --port names another."
    )
