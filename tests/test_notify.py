"""What a service manager hears, at a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.notify import Notifier


class Manager:
    """As systemd listens."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(20)

    def heard(self) -> dict[str, str]:
        lines = self._socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    async def hears(self) -> dict[str, str]:
        return await asyncio.to_thread(self.heard)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"@pipeserve-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    made = Manager(name)
    yield made
    made.close()


def test_states_are_told(manager: Manager) -> None:
    """Each in one datagram; a reload says when it began, by the clock that systemd reads."""
    notifier = Notifier(manager.address)
    notifier.ready("serving on http://127.0.0.1:8000")
    assert manager.heard() == {"READY": "1", "STATUS": "serving on http://127.0.0.1:8000"}
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    told = manager.heard()
    assert told["RELOADING"] == "1"
    assert before <= int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notifier.reloaded()
    assert manager.heard() == {"READY": "1", "STATUS": "serving on http://127.0.0.1:8000"}
    notifier.stopping()
    assert manager.heard() == {"STOPPING": "1"}
    notifier.close()


def test_failed_reload_stands_in_the_status(manager: Manager) -> None:
    """`systemctl reload` itself cannot say it; in one line, for a line is what the protocol has."""
    notifier = Notifier(manager.address)
    notifier.ready("serving on http://127.0.0.1:8000")
    manager.heard()
    notifier.reloaded("models.yaml:2: unknown key\n  READY=0")
    assert manager.heard() == {
        "READY": "1",
        "STATUS": "serving on http://127.0.0.1:8000; models.yaml is not reloaded: models.yaml:2: unknown key READY=0",
    }
    notifier.close()


async def test_the_watchdog_hears_of_the_event_loop(tmp_path: Path) -> None:
    """Again and again, until it is closed."""
    manager = Manager(str(tmp_path / "notify"))
    notifier = Notifier(manager.address, watchdog_s=0.02)
    notifier.watch()
    assert [await manager.hears() for _ in range(3)] == [{"WATCHDOG": "1"}] * 3
    notifier.close()
    manager.close()


def test_variables_are_taken_from_the_environment() -> None:
    """Workers would tell the manager of themselves; a watchdog of another process is none of ours."""
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    assert Notifier.taken_from(environ).watchdog_s == 3.0
    assert environ == {"HOME": "/"}
    assert Notifier.taken_from({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_s is None


def test_nothing_is_told_where_nobody_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the variable in silence; with one that leads nowhere in one line of the log."""
    Notifier().ready("")
    assert caplog.records == []
    lost = Notifier(str(tmp_path / "gone"))
    lost.ready("")
    lost.stopping()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the service manager at NOTIFY_SOCKET cannot be told anything"
    ]
