"""Which other sites' pages may read this server's answers: none, unless the operator names them."""

from __future__ import annotations

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_METHODS = ("GET", "HEAD", "POST", "DELETE")
_EXPOSED = (
    "retry-after",
    "x-request-id",
    "x-model",
    "x-should-retry",
    *(f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")),
)


def cors(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """Around the door: a preflight carries no key. Keys are headers, never cookies, so that no credentials of a browser
    are allowed."""
    return CORSMiddleware(
        app, allow_origins=origins, allow_methods=_METHODS, allow_headers=("*",), expose_headers=_EXPOSED
    )
