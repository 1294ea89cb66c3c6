"""What a service manager is told, by systemd's protocol: datagrams of `NAME=value` lines to the socket in NOTIFY_SOCKET
(sd_notify(3), systemd 257). Where there is no such variable, nothing is sent."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import MutableMapping

logger = logging.getLogger(__name__)


class Notifier:
    """Owned by the event loop. address: a path, or `@` and the name of an abstract socket; None: nobody listens.
    watchdog_s: the manager ends this process if it hears nothing for so long."""

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address is not None and address.startswith("@") else address
        self.watchdog_s = watchdog_s
        self._status = "serving"
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str]) -> Notifier:
        """By its variables, which are removed: workers are none of the manager's business."""
        address = environ.pop("NOTIFY_SOCKET", "") or None
        microseconds = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        is_ours = microseconds.isdigit() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        return cls(address, watchdog_s=int(microseconds) / 1e6 if is_ours else None)

    def ready(self, status: str) -> None:
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, problem: str = "") -> None:
        """After `reloading`; problem: why nothing is different. It stands in the status until the next reload."""
        why = f"; models.yaml is not reloaded: {' '.join(problem.split())}" if problem else ""
        self._send("READY=1", f"STATUS={self._status}{why}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def watch(self) -> None:
        """From now on tell that the event loop turns, twice as often as it must. Called on it."""
        if self._address is not None and self.watchdog_s is not None:
            self._send("WATCHDOG=1")
            self._timer = asyncio.get_running_loop().call_later(self.watchdog_s / 2, self.watch)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
        self._address = None

    def _send(self, *lines: str) -> None:
        """A manager that cannot be told costs a line in the log, once, and nothing else."""
        if self._address is None:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except BlockingIOError:
            logger.debug("the service manager does not read: %s is not told", lines[0])
        except OSError as error:
            logger.warning("the service manager at NOTIFY_SOCKET cannot be told anything: %s", error)
            self.close()
