"""Plain ASGI routes, whose endpoints read bodies and send answers by themselves."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Protocol

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from app.api.record import record_of

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]
_PARAMETER = re.compile(r"{[^}]*}")


class Served(Protocol):
    """Routes of another API that are there at the root and below each model's URL: `/models/<model>/<path>`."""

    @property
    def paths(self) -> Collection[str]: ...

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """path: one of `paths`. path_model: that of the URL. Raises the errors of `app/errors.py`."""


class AnswerEndpoint:
    """An ASGI app. path: its form, for the log and the metrics."""

    def __init__(self, answer: Answer, path: str) -> None:
        self._answer = answer
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).route = self._path
        await self._answer(scope, receive, send)


def answer_routes(answers: Iterable[tuple[str, str, Answer]]) -> list[BaseRoute]:
    """answers: method, path, and who answers."""
    return [Route(path, AnswerEndpoint(answer, path), methods=[method]) for method, path, answer in answers]


def root_routes(served: Served, paths: Collection[str] | None = None) -> list[BaseRoute]:
    """paths: those at the root, where these are not the same as below a model's URL."""
    wanted = served.paths if paths is None else paths
    return answer_routes(("POST", f"/{path}", partial(served.answer, path, None)) for path in wanted)


def methods_at(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """Those that the request's path takes. Where it fits several forms, since names of models hold slashes, it is what
    says most of it: `/v1/models/a/load` is the loading of `a`, not a model's name."""
    methods: dict[int, set[str]] = {}
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            said = len(_PARAMETER.sub("", route.path))
            methods.setdefault(said, set()).update(route.methods or ())
    return sorted(methods[max(methods)]) if methods else []
