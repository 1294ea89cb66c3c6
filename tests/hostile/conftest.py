"""A real server before a scripted fleet, and beside every hostile request a polite client that wants its answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx
import pytest

from app.settings import Settings
from tests.api.conftest import LiveServer

POLITE = {"inputs": "a good film", "model": "rev"}


class Neighbour:
    """Asks one thing after the other, as long as it is there."""

    def __init__(self, url: str, *, pause_s: float = 0.01) -> None:
        self._url = url
        self._pause_s = pause_s
        self._is_over = threading.Event()
        self.statuses: list[int | str] = []

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=20) as client:
            while True:
                try:
                    self.statuses.append(client.post("/v1/text-classification", json=POLITE).status_code)
                except httpx.HTTPError as error:
                    self.statuses.append(repr(error))
                if self._is_over.wait(self._pause_s):
                    return

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join(30)


@pytest.fixture(scope="session")
def _running() -> Iterator[LiveServer]:
    with LiveServer(Settings()) as running:
        yield running


@pytest.fixture
def live(_running: LiveServer) -> Iterator[LiveServer]:
    """With the limits that a server has by default. Fails a test whose requests cost the neighbour an answer."""
    _running.fleet.reset()
    neighbour = Neighbour(_running.url)
    with neighbour.asking():
        yield _running
    assert neighbour.statuses and set(neighbour.statuses) == {200}, neighbour.statuses


def answer_to(live: LiveServer, *parts: bytes) -> bytes:
    """All that the server sends before it closes the connection; the parts are sent until it does."""
    with live.connect() as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except ConnectionError:
            pass  # it has heard enough
        told = b""
        try:
            while more := connection.recv(2**16):
                told += more
        except ConnectionResetError:
            pass  # it closed while more was on its way
        except TimeoutError:
            raise AssertionError(f"the connection stays open; told so far: {told!r}") from None
        return told
