"""uvicorn with our way of stopping: drain while still listening, then end; a second signal ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from app.api.connection import Connection
from app.errors import PipeserveError
from app.fleet.requests import FleetAPI
from app.notify import Notifier
from app.settings import Settings, Tls

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG = 2048
KEEP_ALIVE_S = 75  # longer than the 60 s of common load balancers, so that they and not we close idle connections
OWN_FILES = 256
UNSENT_BYTES = 128 * 2**10
"""What the kernel takes of a connection beyond what is on its way, instead of megabytes: so that a client that does not
read is noticed, and a stream made no faster than it is read."""
_ADVICE_ON_ADDRESSES = {
    errno.EADDRINUSE: "Another program has it; --port names another port, and 0 takes a free one.",
    errno.EACCES: "Ports below 1024 are for root, or for who has CAP_NET_BIND_SERVICE; --port names another.",
    errno.EADDRNOTAVAIL: "This machine does not have that address; --host 0.0.0.0 is all that it has.",
}
LAST_WRITES_S = 5  # for answers that are still being sent after the drain


def bind(host: str, port: int) -> socket.socket:
    """Raises OSError. The protocol is named because asyncio sets TCP_NODELAY only on sockets that say TCP."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)  # its connections have it too
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def why_not_bound(host: str, port: int, error: OSError) -> str:
    """And what to do about it."""
    sentence = f"cannot listen on {host}:{port}: {error.strerror or error}."
    if isinstance(error, socket.gaierror):
        return f"{sentence} --host is an address of this machine, or a name for one."
    return f"{sentence} {_ADVICE_ON_ADDRESSES.get(error.errno or 0, '')}".rstrip()


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _tls_options(tls: Tls) -> dict[str, Any]:
    return {
        "ssl_certfile": tls.certfile,
        "ssl_keyfile": tls.keyfile,
        "ssl_keyfile_password": tls.keyfile_password,
        "ssl_ca_certs": tls.ca_certs,
        "ssl_cert_reqs": ssl.CERT_NONE if tls.ca_certs is None else ssl.CERT_REQUIRED,
    }


def make_room_for(max_connections: int) -> int:
    """Raise the limit of open files for so many connections; how many there is room for.

    A connection is a file, and the usual limit of 1,024 is for programs that wait with select(). Some are kept for
    workers and for files: a crowd of clients must not keep a model from being loaded.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max_connections if soft == resource.RLIM_INFINITY else max(1, min(max_connections, soft - OWN_FILES))


class Server(uvicorn.Server):
    """announce: called once, when connections are accepted. reload: what SIGHUP asks for; it tells by itself how it
    ended. end_streams: called after the drain, before connections are waited for. Gets the signals when the main thread
    runs it."""

    def __init__(
        self,
        app: ASGIApp,
        fleet: FleetAPI,
        *,
        drain_s: float,
        announce: Callable[[], None],
        tls: Tls | None = None,
        client_timeout_s: float = Settings.client_timeout_s,
        max_connections: int = Settings.max_connections,
        cut: Callable[[str], None] = lambda reason: None,
        reload: Callable[[], Awaitable[object]] | None = None,
        end_streams: Callable[[], Awaitable[None]] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        """client_timeout_s, max_connections, cut: as of `Connection`. Raises OSError for files of TLS that cannot be
        used."""
        connection: Any = partial(Connection, limit_s=client_timeout_s, max_connections=max_connections, cut=cut)
        super().__init__(
            uvicorn.Config(
                app,
                http=connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=LAST_WRITES_S,
                **({} if tls is None else _tls_options(tls)),
            )
        )
        self.config.load()
        self._fleet = fleet
        self._drain_s = drain_s
        self._announce = announce
        self._reload = reload
        self._end_streams = end_streams
        self._notifier = notifier if notifier is not None else Notifier()
        self._reloading: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own handlers close the listener at the first signal; ours must answer 503 through it."""
        if threading.current_thread() is not threading.main_thread():
            yield  # as uvicorn does: signals come to the main thread only
            return
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        try:
            yield
        finally:
            for number in (*STOP_SIGNALS, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        if self._reload is not None and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hung_up, self._reload)
        self._announce()
        self._notifier.watch()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._end_streams is not None:
            await self._end_streams()
        await super().shutdown(sockets)

    def _signalled(self, number: int) -> None:
        if self._stopping is not None:
            # Workers see the end of this process at once, and the kernel ends those that do not.
            os._exit(128 + number)
        logger.info("%s: draining for up to %g s", signal.Signals(number).name, self._drain_s)
        self._notifier.stopping()
        self._stopping = asyncio.get_running_loop().create_task(self._stop())

    def _hung_up(self, reload: Callable[[], Awaitable[object]]) -> None:
        if _is_terminal_gone():
            self._signalled(signal.SIGHUP)
            return
        task = asyncio.get_running_loop().create_task(_reloaded(reload), name="reload")
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _stop(self) -> None:
        try:
            await self._fleet.drain(self._drain_s)
            await self._fleet.stop()
        finally:
            self.should_exit = True


def _is_terminal_gone() -> bool:
    """A terminal that is closed sends SIGHUP too, and who started a server in it means to end it."""
    try:
        os.tcgetpgrp(0)
    except OSError as error:
        return error.errno == errno.EIO  # any other: stdin is no terminal
    return False


async def _reloaded(reload: Callable[[], Awaitable[object]]) -> None:
    """Nobody waits for the answer to a signal; what is wrong stands in the log."""
    try:
        await reload()
    except PipeserveError:
        pass
    except Exception:  # a task's boundary
        logger.exception("models.yaml was not reloaded. This is a bug.")
