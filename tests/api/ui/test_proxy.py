"""`/ui` over HTTP: a real server, and a process in the place of the pages that says what it was asked."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from app.access.keys import keys_of_variable
from app.api.ui.process import environment_of
from app.settings import Settings
from tests.api.conftest import MAX_BODY_BYTES, LiveServer
from tests.server import wait_until

FAKE = (sys.executable, str(Path(__file__).with_name("fake_pages.py")))


@pytest.fixture(scope="module")
def pages() -> Iterator[LiveServer]:
    with LiveServer(pages_command=FAKE) as server:
        yield server


def asked(pages: LiveServer, method: str = "GET", path: str = "/ui/", **keywords: Any) -> dict[str, Any]:
    """What the pages' process was asked, once it has started."""
    wait_until(lambda: pages.get("/ui/").status_code == 201, timeout_s=60, what="its start")
    answer = pages.client.request(method, path, **keywords)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_requests_and_answers_are_passed_on(pages: LiveServer) -> None:
    """Path and query as they were written, the body, both cookies, the status."""
    told = asked(pages, "POST", "/ui/a%2Fb/c?x=1&y=%20", content=b"body", headers={"cookie": "z=3"})
    assert (told["method"], told["path"], told["body"]) == ("POST", "/ui/a%2Fb/c?x=1&y=%20", "body")
    assert told["headers"]["cookie"] == "z=3"
    answer = pages.get("/ui")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"] and answer.headers["x-request-id"]


def test_headers_say_how_the_server_was_reached(pages: LiveServer) -> None:
    """By itself, whatever the client wrote there; and keys are for the server alone."""
    forged = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "x-forwarded-for": "1.2.3.4"}
    secret = {"authorization": "Bearer secret", "x-api-key": "secret", "api-key": "secret"}
    headers = asked(pages, headers={**forged, **secret, "te": "trailers"})["headers"]
    host = pages.url.removeprefix("http://")
    assert headers["host"] == headers["x-forwarded-host"] == host and headers["x-forwarded-proto"] == "http"
    assert not {"x-forwarded-for", "authorization", "x-api-key", "api-key", "te"} & set(headers)


def test_cookies_are_their_visitors_alone(pages: LiveServer) -> None:
    """What the pages gave to one browser is not shown for the next; and a request has no header but its own."""
    asked(pages)
    headers = {"host": "pages.example", "accept": "text/x-own", "connection": "close"}
    host, port = pages.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /ui/ HTTP/1.1\r\n")
        connection.sendall("".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n")
        body = connection.makefile("rb").read().partition(b"\r\n\r\n")[2]
    told = json.loads(body)["headers"]
    assert set(told) == {"host", "accept", "x-forwarded-proto", "x-forwarded-host"}


def test_process_is_told_where_the_server_is(pages: LiveServer) -> None:
    """And nothing else: its folder is its own, and the operator's secrets are not in its environment."""
    told = asked(pages)
    assert told["told"]["api_url"] == pages.url and told["told"]["needs_key"] is False
    assert Path(told["folder"]).stat().st_mode & 0o077 == 0
    kept = environment_of({"PATH": "/bin", "HF_TOKEN": "x", "PIPESERVE_API_KEYS": "y"}, Path("folder"))
    assert kept["PATH"] == "/bin" and not {"HF_TOKEN", "PIPESERVE_API_KEYS"} & set(kept)


def test_stream_is_passed_on_until_the_client_leaves(pages: LiveServer) -> None:
    """Its parts come as they are made, and the process learns that nobody reads."""
    before = asked(pages)["num_left"]
    with pages.client.stream("GET", "/ui/stream") as answer:
        assert next(answer.iter_bytes()).startswith(b"data: tick\n\n")
    wait_until(lambda: asked(pages)["num_left"] == before + 1, what="the leaving")


def test_bodies_have_the_servers_limit(pages: LiveServer) -> None:
    """Whether their length was told or not."""
    for content in (b"x" * (MAX_BODY_BYTES + 1), iter([b"x" * MAX_BODY_BYTES, b"x"])):
        answer = pages.client.post("/ui/upload", content=content)
        assert answer.status_code == 413 and str(MAX_BODY_BYTES) in answer.text
    assert len(asked(pages, "POST", content=b"x" * 50_000)["body"]) == 50_000


def test_process_that_dies_is_started_again_after_a_while() -> None:
    """The server says so meanwhile, and goes on."""
    with LiveServer(pages_command=FAKE) as server:
        first = asked(server)["pid"]
        assert server.get("/ui/die").status_code == 503
        wait_until(lambda: not psutil.pid_exists(first))
        answer = server.get("/ui/")
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        assert server.get("/livez").text == "ok"
        assert asked(server)["pid"] != first


def test_process_may_die_in_the_midst_of_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """A stream of events ends there; of any other answer the client sees that it is not whole. No bug is logged."""
    for media_type in ("text/event-stream", "text/plain"):
        with LiveServer(pages_command=FAKE) as server:
            asked(server)
            with server.client.stream("GET", f"/ui/dying?{media_type}") as answer:
                parts = answer.iter_bytes()
                assert next(parts) == b"data: tick\n\n"
                with nullcontext() if "event" in media_type else pytest.raises(httpx.RemoteProtocolError):
                    assert list(parts) == []
            assert server.get("/livez").text == "ok"
    assert "with 3" in caplog.text and "Traceback" not in caplog.text


def test_open_page_does_not_hold_a_stop(caplog: pytest.LogCaptureFixture) -> None:
    """Its process ends, and its stream with it, before the server waits for its connections."""
    with LiveServer(pages_command=FAKE) as server:
        asked(server)
        with server.client.stream("GET", "/ui/stream") as answer:
            parts = answer.iter_bytes()
            first = next(parts)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            assert b"".join((first, *parts)).endswith(b"data: tick\n\n")
            stopping.join()
    assert "Cancel" not in caplog.text


def test_process_begins_with_a_visitor_and_ends_with_the_server() -> None:
    """Its folder goes with it."""
    children = psutil.Process().children
    before = {child.pid for child in children()}
    with LiveServer(pages_command=FAKE) as server:
        server.get("/v1/models")
        assert {child.pid for child in children()} <= before
        told = asked(server)
        assert psutil.pid_exists(told["pid"])
    assert not psutil.pid_exists(told["pid"]) and not Path(told["folder"]).exists()


def test_first_visitor_sees_that_the_pages_start() -> None:
    """The page asks again by itself; programs get an error that says when to."""
    with LiveServer(pages_command=(*FAKE, "2.5")) as server:
        page = server.get("/ui/", headers={"accept": "text/html"})
        assert page.status_code == 503 and 'http-equiv="refresh"' in page.text
        assert server.get("/ui/x").status_code in (201, 503)
        assert asked(server)


def test_process_that_cannot_start_costs_nothing_else() -> None:
    """The reason is in the log, not in the answer."""
    with LiveServer(pages_command=(sys.executable, "-c", "raise SystemExit(1)")) as server:
        answer = server.get("/ui/", headers={"accept": "text/html"})
        assert answer.status_code == 503 and "log" in answer.json()["error"]
        assert server.get("/v1/models").status_code == 200


def test_pages_can_be_left_out() -> None:
    """`--no-ui`: there is no such route."""
    with LiveServer(Settings(ui=False)) as server:
        assert server.get("/ui/").status_code == 404
    with LiveServer(Settings(ui=False, keys=keys_of_variable("a-secret-of-enough-characters"))) as server:
        assert server.get("/ui/").status_code == 401  # as for whatever else is not there


def test_pages_ask_for_keys_themselves() -> None:
    """So that the door lets their visitors through to the form, and nowhere else."""
    with LiveServer(Settings(keys=keys_of_variable("a-secret-of-enough-characters")), pages_command=FAKE) as server:
        assert asked(server)["told"]["needs_key"] is True
        for path in ("/uix", "/UI/", "/v1/models", "/v1/ui/"):
            assert server.get(path).status_code == 401, path
