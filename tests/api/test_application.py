"""The short way to endpoints that are ASGI apps: the router's choice, without its walk."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.api.application import Application
from app.api.middleware import RequestMiddleware
from app.errors import InvalidInput
from tests.api.conftest import LiveServer


class Endpoint:
    """Answers with its name and what the path says."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(f"{self.name} {scope['path_params']}")(scope, receive, send)


def application(*routes: Route) -> Application:
    app = Application(around=lambda inner: inner)
    app.router.routes.extend(routes)
    return app


async def ask(app: Application, path: str, method: str = "POST") -> tuple[int, str]:
    """Status and text of the answer."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


async def test_the_first_route_that_matches_answers_every_time() -> None:
    """The second request goes the short way: to the same endpoint, with the parameters of its own path."""
    app = application(
        Route("/v1/task", Endpoint("exact"), methods=["POST"]),
        Route("/v1/{name:path}", Endpoint("any"), methods=["POST"]),
        Route("/v1/late", Endpoint("late"), methods=["POST"]),
    )
    for _ in range(2):
        assert await ask(app, "/v1/task") == (200, "exact {}")
        assert await ask(app, "/v1/a/b") == (200, "any {'name': 'a/b'}")
        assert await ask(app, "/v1/late") == (200, "any {'name': 'late'}")


async def test_a_request_cannot_change_what_the_next_one_finds() -> None:
    """Each gets path parameters of its own."""

    class Changing(Endpoint):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope["path_params"]["name"] += "!"
            await super().__call__(scope, receive, send)

    app = application(Route("/{name}", Changing("any"), methods=["POST"]))
    assert [await ask(app, "/a") for _ in range(2)] == [(200, "any {'name': 'a!'}")] * 2


async def test_methods_are_told_apart() -> None:
    """What is remembered of POST says nothing of GET, which FastAPI refuses."""
    app = application(Route("/a", Endpoint("a"), methods=["POST"]))
    for _ in range(2):
        assert await ask(app, "/a") == (200, "a {}")
        assert (await ask(app, "/a", "GET"))[0] == 405
        assert (await ask(app, "/b"))[0] == 404


async def test_more_paths_than_are_remembered_are_answered() -> None:
    """Paths are the clients' choice: their number is not bounded, what is kept of them is."""
    app = application(Route("/{name}", Endpoint("any"), methods=["POST"]))
    for number in range(2500):
        assert await ask(app, f"/{number}") == (200, f"any {{'name': '{number}'}}")
    assert len(app._places) <= 1024
    assert await ask(app, "/" + "x" * 5000) == (200, f"any {{'name': '{'x' * 5000}'}}")
    assert not any(len(path) > 1000 for _, path in app._places)


async def test_an_error_after_the_answer_began_is_a_bug() -> None:
    """It cannot become another answer: the server ends the connection."""

    class Breaking(Endpoint):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = {"record": type("Record", (), {"status": 200})()}
            await super().__call__(scope, receive, send)
            raise InvalidInput("too late")

    with pytest.raises(RuntimeError, match="This is a bug"):
        await ask(application(Route("/a", Breaking("a"), methods=["POST"])), "/a")


def test_every_task_goes_the_short_way(server: LiveServer) -> None:
    """With the layer that gives it its id; errors have the same shape, the first time and the second."""
    for _ in range(2):
        response = server.post("/v1/text-classification", {"inputs": "x"})
        assert response.status_code == 200 and response.headers["x-request-id"]
        assert server.error_of(server.post("/v1/text-classification", {}))[:2] == (422, "validation")
    assert ("POST", "/v1/text-classification") in server.app._places
    assert isinstance(server.app._around_endpoints, RequestMiddleware)
