"""URLs in requests: refused where they are off, and never a way into the server's own network where they are on."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx2 as httpx
import pytest

from app.api.application import Application
from app.media.limits import MediaLimits
from app.settings import Settings
from app.tasks.registry import TASKS
from app.tasks.samples import GIF_BASE64, PNG_BASE64, WAV_BASE64
from tests.api.fake_fleet import FakeFleet
from tests.hostile.every import every_app


class Canary:
    """A service of the server's own network; it has done its duty when somebody connects."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.num_visits = 0
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.num_visits += 1
            connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def canary() -> Iterator[Canary]:
    """Fails a test in which it was reached."""
    one = Canary()
    yield one
    one.close()
    assert one.num_visits == 0


@cache
def _app(are_allowed: bool) -> tuple[Application, FakeFleet]:
    return every_app(Settings(), MediaLimits(allow_urls=are_allowed))


async def ask(path: str, body: Any, *, are_allowed: bool = True) -> httpx.Response:
    app, fleet = _app(are_allowed)
    fleet.reset()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await client.post(path, json=body)


def with_url(url: str) -> list[tuple[str, Any]]:
    """Every place of every dialect in which a file may be a URL."""
    found: list[tuple[str, Any]] = []
    for name, task in TASKS.items():
        body = json.dumps(task.example.body)
        changed = body
        for sample in (PNG_BASE64, WAV_BASE64, GIF_BASE64):
            changed = changed.replace(sample, url)
        if changed != body:
            found.append((f"/v1/{name}", json.loads(changed)))
    text = {"type": "text", "text": "What is it?"}
    image, sound = (
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_audio", "input_audio": {"data": url}},
    )
    found += [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [text, image]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [text, sound]}]}),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url, "detail": "auto"}]}]},
        ),
        (
            "/v1/messages",
            {
                "max_tokens": 1,
                "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}],
            },
        ),
        ("/api/chat", {"model": "every", "messages": [{"role": "user", "content": "a", "images": [url]}]}),
        ("/api/generate", {"model": "every", "prompt": "a", "images": [url]}),
        ("/predict", {"instances": [{"inputs": url}]}),
        ("/invocations", {"inputs": url}),
        ("/v1/load_lora_adapter", {"lora_name": "a", "lora_path": url}),
    ]
    return found


PLACES = [path for path, _ in with_url("http://a/")]


@pytest.mark.parametrize("index", range(len(PLACES)), ids=PLACES)
@pytest.mark.parametrize("are_allowed", [False, True], ids=["off", "on"])
async def test_no_place_leads_into_the_servers_network(canary: Canary, index: int, are_allowed: bool) -> None:
    """Neither where URLs are off, nor where they are on."""
    path, body = with_url(f"http://127.0.0.1:{canary.port}/secret.png")[index]
    answer = await ask(path, body, are_allowed=are_allowed)
    if path not in TEXTS_OF_THEIR_OWN:
        assert 400 <= answer.status_code < 500, answer.text[:300]


TEXTS_OF_THEIR_OWN = ("/predict", "/invocations")
"""Of a model of texts the URL is a text like any other."""

DISGUISES = """
127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 127.0.0.1. 0 0.0.0.0 [::] [::1]
[::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:7f00:1] [::127.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::] [::1%25lo]
localhost localhost. LOCALHOST
127。0。0。1 １２７.0.0.1 ⓛocalhost %31%32%37.0.0.1 127.0.0.1%00.example.org 169.254.169.254 [fd00:ec2::254]
example.org@127.0.0.1 127.0.0.1#@example.org 127.0.0.1\\@example.org
""".split()


@pytest.mark.parametrize("host", DISGUISES)
async def test_disguises_of_loopback_are_seen_through(canary: Canary, host: str) -> None:
    """Decimal, octal, hexadecimal, short, wide and embedded forms, and those that parsers quarrel about."""
    before, hash_, after = host.partition("#")
    url = f"http://{before}:{canary.port}/{hash_}{after}" if "\\" not in host else f"http://{host}:{canary.port}/"
    answer = await ask("/v1/image-classification", {"inputs": url})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"].startswith("inputs[0]: ")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "FILE:///etc/passwd", "gopher://127.0.0.1/", "ftp://a/"])
async def test_other_schemes_are_no_files(url: str) -> None:
    """Where URLs are allowed, too."""
    answer = await ask("/v1/image-classification", {"inputs": url})
    assert answer.status_code == 422, answer.text
    assert "root:" not in answer.text


async def test_files_of_urls_are_bounded_together() -> None:
    """By what a body may have; more than so many are refused unfetched."""
    urls = [f"http://files.example.org/{index}" for index in range(100)]
    answer = await ask("/v1/image-classification", {"inputs": urls})
    assert answer.status_code == 422
    assert "100 URLs" in answer.json()["error"]
