"""FastAPI's app, with a short way to the routes whose endpoints are ASGI apps of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import answer_http_exception, answer_pipeserve_error
from app.api.record import record_of
from app.errors import PipeserveError

_MAX_PLACES = 1024
_MAX_PATH_CHARS = 512


class Application(FastAPI):
    """FastAPI's layers and its walk over all routes cost more CPU than all else that a small request needs, and do
    nothing for endpoints that read bodies and answer errors by themselves. So the router is asked once for each method
    and path, and its choice is remembered: the order of the routes decides, as ever.
    """

    def __init__(
        self,
        *,
        around: Callable[[ASGIApp], ASGIApp],
        end_streams: Callable[[], Awaitable[None]] | None = None,
        **options: Any,
    ) -> None:
        """around: the layer that every request passes, made around what it is to call. end_streams: has those answers
        end which would go on as long as their clients stay; for who stops the server."""
        super().__init__(**options)
        self.end_streams = end_streams
        self.add_middleware(around)
        self._around_endpoints = around(_call_endpoint)
        self._places: dict[tuple[str, str], tuple[ASGIApp, dict[str, Any]] | None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = self._place(scope) if scope["type"] == "http" else None
        if place is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        scope["endpoint"], path_params = place
        scope["path_params"] = dict(path_params)
        await self._around_endpoints(scope, receive, send)

    async def answer_endpoint(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Below the layer around: for requests that come from inside, to an endpoint that is an ASGI app of ours."""
        place = self._place(scope)
        assert place is not None, f"No endpoint of ours is at {scope['path']}. This is a bug."
        scope["app"] = self
        scope["endpoint"], path_params = place
        scope["path_params"] = dict(path_params)
        await _call_endpoint(scope, receive, send)

    def _place(self, scope: Scope) -> tuple[ASGIApp, dict[str, Any]] | None:
        """The endpoint and what its path says; None: FastAPI is to answer."""
        key = scope["method"], scope["path"]
        try:
            return self._places[key]
        except KeyError:
            pass
        place = _find(self.router.routes, scope)
        if len(scope["path"]) <= _MAX_PATH_CHARS:
            if len(self._places) >= _MAX_PLACES:
                self._places.clear()  # paths are the clients' choice: those in use are back at once
            self._places[key] = place
        return place


def _find(routes: list[BaseRoute], scope: Scope) -> tuple[ASGIApp, dict[str, Any]] | None:
    """As the router chooses: the first route that matches."""
    for route in routes:
        match, found = route.matches(scope)
        if match is Match.FULL:
            is_ours = isinstance(route, Route) and route.app is route.endpoint
            return (found["endpoint"], found["path_params"]) if is_ours else None
    return None


async def _call_endpoint(scope: Scope, receive: Receive, send: Send) -> None:
    """Its errors are answered as FastAPI's exception middleware would have them answered."""
    try:
        await scope["endpoint"](scope, receive, send)
    except (PipeserveError, HTTPException) as error:
        if record_of(scope).status:
            raise RuntimeError("an error came after the answer had begun. This is a bug.") from error
        answer = answer_pipeserve_error if isinstance(error, PipeserveError) else answer_http_exception
        await answer(Request(scope), error)(scope, receive, send)
