"""A real uvicorn on a free port, in a thread of its own, before a fleet that is a script."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2 as httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry

from app.api.server import Server, bind, url_of
from app.api.ui.process import COMMAND
from app.catalog import Catalog
from app.main import build_app
from app.reloading import Reloader
from app.settings import Settings
from app.telemetry import Telemetry
from tests.api.fake_fleet import CATALOG, FakeFleet

MAX_BODY_BYTES = 100_000


def read_nothing_new() -> Catalog:
    return CATALOG


class LiveServer:
    """The server under test, and a client for it. read: what models.yaml is when it is read again."""

    def __init__(self, settings: Settings | None = None, *, pages_command: Sequence[str] = COMMAND) -> None:
        self.fleet = FakeFleet()
        self._listener = bind("127.0.0.1", 0)
        self._is_up = threading.Event()
        telemetry = Telemetry(CollectorRegistry())
        settings = settings if settings is not None else Settings(max_body_bytes=MAX_BODY_BYTES)
        self.url = url_of(self._listener, "http" if settings.tls is None else "https")
        self.read = read_nothing_new
        reloader = Reloader(lambda: self.read(), CATALOG, self.fleet, telemetry, settings)
        self.app = build_app(settings, CATALOG, self.fleet, telemetry, reloader, pages_command=pages_command)
        self._server = Server(
            self.app,
            self.fleet,
            drain_s=5,
            announce=self._is_up.set,
            tls=settings.tls,
            client_timeout_s=settings.client_timeout_s,
            max_connections=settings.max_connections,
            cut=telemetry.connection_cut,
            end_streams=self.app.end_streams,
        )
        self._thread = threading.Thread(target=self._run)
        self.client = httpx.Client(base_url=self.url, timeout=20)

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])

    def __enter__(self) -> LiveServer:
        self._thread.start()
        assert self._is_up.wait(20), "the server did not start"
        return self

    def __exit__(self, *exception: object) -> None:
        self.client.close()
        self.stop()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def post(self, path: str, body: Any = None, **keywords: Any) -> httpx.Response:
        if body is not None:
            keywords["content"] = orjson.dumps(body)
        return self.client.post(path, **keywords)

    def get(self, path: str, **keywords: Any) -> httpx.Response:
        return self.client.get(path, **keywords)

    def connect(self) -> socket.socket:
        """A bare connection, for what no client library does."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=20)

    def error_of(self, response: httpx.Response) -> tuple[int, str, str]:
        """Status, type and text of an answer in Hugging Face's shape, which has nothing else."""
        body = response.json()
        assert set(body) == {"error", "error_type"}, body
        assert response.headers["content-type"] == "application/json"
        return response.status_code, body["error_type"], body["error"]


@pytest.fixture(scope="session")
def _running_server() -> Iterator[LiveServer]:
    with LiveServer() as running:
        yield running


@pytest.fixture
def server(_running_server: LiveServer) -> LiveServer:
    """One server for all tests, its fleet as new for each."""
    _running_server.fleet.reset()
    _running_server.read = read_nothing_new
    return _running_server


@pytest.fixture
def fresh_server() -> Iterator[LiveServer]:
    """A server that no request has reached."""
    with LiveServer() as running:
        yield running


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Poll for what another thread does; fails after a generous while."""

    def wait(is_so: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(2000):
            if is_so():
                return
            pause.wait(0.01)
        raise AssertionError("it did not happen")

    return wait
