"""Where a request shows its key: before routing, and before a byte of its body is read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.clients import Client, Clients
from app.access.keys import ADMIN, INFER, METRICS
from app.api.access.allowed import AllowedFleet
from app.api.access.caller import Caller
from app.api.errors import answer_pipeserve_error
from app.api.record import record_of
from app.errors import PipeserveError, Unauthorized
from app.fleet.requests import ModelsAPI
from app.ui.told import PATH as UI_PATH

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"})
"""What load balancers ask, which have no key."""
_PAGES = ("/docs", "/openapi.json")
_BEARER = 'Bearer realm="pipeserve"'
_BASIC = 'Basic realm="pipeserve", charset="UTF-8"'
_RATE_LIMIT_NAMES = {
    kind: tuple(f"x-ratelimit-{what}-{kind}".encode() for what in ("limit", "remaining", "reset"))
    for kind in ("requests", "tokens")
}
_Headers = Mapping[bytes, bytes]


class Callers:
    """Everyone who has a key, as they make requests. Owned by the event loop."""

    def __init__(self, clients: Clients, fleet: ModelsAPI) -> None:
        self.clients = clients
        self._fleet = fleet
        self._callers: dict[Client, Caller] = {}
        self._version = clients.version

    def caller_of(self, client: Client) -> Caller:
        if self._version != self.clients.version:
            self._callers.clear()
            self._version = self.clients.version
        caller = self._callers.get(client)
        if caller is None:
            key = client.key
            self._callers[client] = caller = Caller(
                name=key.name,
                fleet=AllowedFleet(self._fleet, client),
                scopes=key.scopes,
                is_restricted=key.is_restricted,
                priority=key.priority,
                weight=key.weight,
            )
        return caller

    def named(self, name: str) -> Client:
        """Who has the key of this name. Raises Unauthorized where it is revoked or has expired."""
        client = self.clients.named(name)
        if client is None or not self.clients.is_valid(client):
            raise Unauthorized(f'The API key "{name}", which this was asked with, is not valid any more.')
        return client


class Door:
    """Pure ASGI, around every dialect of a server that has keys; errors have the shape of the route's dialect.

    By the path is decided here only whether a key opens the door at all. Jobs (`AllowedFleet`) and what administrators
    do (`RequestRecord.demand_admin`) are looked at where they are done, so that no way of writing a path leads past.
    """

    def __init__(self, app: ASGIApp, *, callers: Callers, has_pages: bool) -> None:
        """has_pages: `/ui` is there, which has a door of its own."""
        self._app = app
        self._callers = callers
        self._has_pages = has_pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["path"] in OPEN_PATHS
            or (self._has_pages and _is_of_the_pages(scope["path"]))
        ):
            await self._app(scope, receive, send)
            return
        record, is_page = record_of(scope), _is_page(scope)
        try:
            client = self._callers.clients.identify(_presented(record.headers, may_be_basic=is_page))
            record.caller = caller = self._callers.caller_of(client)
            if client.is_limited:
                record.rate_limits = lambda: rate_limit_headers(client)
            if scope["path"] == "/metrics":
                caller.demand(METRICS, ADMIN)
            elif not is_page:
                caller.demand(INFER, ADMIN)
            client.begin()
        except PipeserveError as error:
            response = answer_pipeserve_error(Request(scope), error)
            if isinstance(error, Unauthorized):
                response.headers["www-authenticate"] = f"{_BEARER}, {_BASIC}" if is_page else _BEARER
            await response(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            client.end()


def _is_of_the_pages(path: str) -> bool:
    """The pages let nobody in without a key (`app/ui/guard.py`), and ask for one in a form."""
    return path == UI_PATH or path.startswith(f"{UI_PATH}/")


def _is_page(scope: Scope) -> bool:
    """For people and their browsers, which know no Bearer."""
    path = scope["path"]
    return scope["method"] in ("GET", "HEAD") and (path == "/" or path.startswith(_PAGES))


def _presented(headers: _Headers, *, may_be_basic: bool) -> list[bytes]:
    """The secrets that a request shows: a proxy may have added one of its own, so that any of them counts.

    HTTP's Basic has the key as its password. It is for pages alone: a browser sends it with other sites' requests too.
    """
    found = []
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        found.append(credentials.strip())
    elif scheme.lower() == b"basic" and may_be_basic:
        found.append(_password(credentials.strip()))
    found += [headers.get(b"x-api-key", b""), headers.get(b"api-key", b"")]
    return [one for one in found if one]


def _password(credentials: bytes) -> bytes:
    try:
        _, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except binascii.Error:
        return credentials  # some key that nobody has
    return password


def rate_limit_headers(client: Client) -> list[tuple[bytes, bytes]]:
    """OpenAI's, of those limits that the key has."""
    now, found = client.now(), []
    for kind, bucket in client.buckets.items():
        limit, remaining, reset = _RATE_LIMIT_NAMES[kind]
        found += [
            (limit, b"%d" % bucket.per_minute),
            (remaining, b"%d" % bucket.remaining(now)),
            (reset, b"%.3fs" % bucket.seconds_until(bucket.per_minute, now)),
        ]
    return found
