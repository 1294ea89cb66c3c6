"""Plain ASGI routes, whose endpoints read bodies and send answers by themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from app.api.record import record_of

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


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
