"""`/ui`: requests for the pages, passed on to their process, and its answers as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from app.api.disconnect import until_disconnect
from app.api.record import record_of
from app.api.ui.process import PagesProcess
from app.errors import Cancelled, InputTooLarge, Unavailable
from app.ui.told import PATH

_WAIT_S = 1.5  # for a process that starts; after that a page says so, and asks again
_PER_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_NOT_PASSED_ON = _PER_CONNECTION | {
    # The pages know their visitors by a cookie of their own.
    b"authorization",
    b"x-api-key",
    b"api-key",
    # What stands there is said anew: clients may write what they like.
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
}
_STARTING = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pipeserve</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="1">
<style>:root{color-scheme:light dark}body{font:16px system-ui,sans-serif;display:grid;place-items:center;height:90vh;
margin:0;text-align:center}i{display:block;width:12rem;height:3px;margin:1.5rem auto;border-radius:3px;
background:linear-gradient(90deg,transparent,#6366f1,transparent);background-size:50% 100%;background-repeat:no-repeat;
animation:go 1.2s infinite ease-in-out}@keyframes go{from{background-position:-50% 0}to{background-position:150% 0}}
small{opacity:.65}</style></head><body><main>Starting the pages<i></i><small>The first visit takes a few
seconds.</small></main></body></html>"""


def pages_routes(pages: PagesProcess, *, max_body_bytes: int) -> list[BaseRoute]:
    endpoint = PagesEndpoint(pages, max_body_bytes=max_body_bytes)
    return [Route(PATH, endpoint, methods=None), Route(f"{PATH}/{{rest:path}}", endpoint, methods=None)]


class PagesEndpoint:
    """An ASGI app. max_body_bytes: of a request, as of any other of this server."""

    def __init__(self, pages: PagesProcess, *, max_body_bytes: int) -> None:
        self._pages = pages
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        record.route = PATH
        try:
            transport = await self._pages.transport(_own_url(scope), wait_s=_WAIT_S)
        except Unavailable as error:
            if b"text/html" not in record.headers.get(b"accept", b"") or error.retry_after_s is None:
                raise
            await _send_page(send, _STARTING, 503)
            return
        request = httpx2.Request(
            scope["method"],
            httpx2.URL(f"http://pages{_target(scope)}"),
            headers=_passed_on(scope),
            content=self._body(receive) if _has_body(scope) else None,
        )
        try:
            response = await transport.handle_async_request(request)
        except httpx2.HTTPError as error:
            raise Unavailable("The pages' process ended; it is started again.", retry_after_s=1) from error
        try:
            await until_disconnect(receive, _pass_on(response, send))
        except Cancelled:
            pass  # nobody is left to be told
        finally:
            await response.aclose()

    async def _body(self, receive: Receive) -> AsyncIterator[bytes]:
        """Raises InputTooLarge, and Cancelled for a client that leaves."""
        num_bytes = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("The client left before its request was complete.")
            part = message.get("body", b"")
            num_bytes += len(part)
            if num_bytes > self._max_body_bytes:
                raise InputTooLarge(f"The request's body is larger than {self._max_body_bytes} bytes.")
            if part:
                yield part
            more = message.get("more_body", False)


async def _pass_on(response: httpx2.Response, send: Send) -> None:
    """To its end, or to that of the process in its midst, of which the log tells already: a stream of events has no end
    of its own, and ends like any; of all else the client sees that something is missing."""
    headers = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _PER_CONNECTION]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    try:
        async for part in response.aiter_raw():
            await send(_part(part, more=True))
    except httpx2.HTTPError:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            return  # uvicorn closes the connection of an answer that is not complete
    await send(_part(b"", more=False))


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _send_page(send: Send, page: bytes, status: int) -> None:
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(page)),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"1"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send(_part(page, more=False))


def _own_url(scope: Scope) -> str:
    """Where this connection reached the server."""
    host, port = scope["server"]
    return f"{scope['scheme']}://[{host}]:{port}" if ":" in host else f"{scope['scheme']}://{host}:{port}"


def _target(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    path = scope["raw_path"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _passed_on(scope: Scope) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in scope["headers"] if name not in _NOT_PASSED_ON]
    host = next((value for name, value in kept if name == b"host"), b"")
    return [*kept, (b"x-forwarded-proto", scope["scheme"].encode()), (b"x-forwarded-host", host)]
