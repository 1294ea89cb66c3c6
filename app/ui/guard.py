"""The pages' own door: a browser logs in with an API key, once; pages of other sites get nothing done here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.ui.client import ApiError
from app.ui.login_page import login_page
from app.ui.sessions import Sessions, Visitor
from app.ui.told import PATH

COOKIE = "pipeserve_ui"
LOGIN, LOGOUT = f"{PATH}/login", f"{PATH}/logout"

_MAX_FORM_BYTES = 8192
_SECURITY_HEADERS = [
    # Gradio's templates are functions made of text, its styles and scripts stand in the page.
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline';"
        b" img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:;"
        b" connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self';"
        b" frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(self), microphone=(self), geolocation=()"),
]
_AGAIN = '<!doctype html><meta http-equiv="refresh" content="0"><title>Pipeserve</title>'

Check = Callable[[str], Awaitable[Visitor]]


class Guard:
    """Pure ASGI, around all of the pages. check: who comes with a key; raises ApiError where it may not be used."""

    def __init__(self, app: ASGIApp, *, sessions: Sessions, check: Check, needs_key: bool) -> None:
        self._app = app
        self._sessions = sessions
        self._check = check
        self._needs_key = needs_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_SECURITY_HEADERS]
            await send(message)

        request = Request(scope, receive)
        answer = await self._answer(request)
        await (self._app if answer is None else answer)(scope, receive, send_guarded)

    async def _answer(self, request: Request) -> Response | None:
        """None: the pages may answer."""
        if request.method not in ("GET", "HEAD") and not _is_of_this_site(request):
            return JSONResponse({"error": "A page of another site may not do anything here."}, 403)
        path = request.url.path
        if path == LOGOUT:
            return self._log_out(request)
        if path == LOGIN:
            return await self._log_in(request)
        if not self._needs_key or self._sessions.visitor_of(request.cookies.get(COOKIE, "")) is not None:
            return None
        if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"error": f"Log in first, at {LOGIN}."}, 401)
        if request.headers.get("sec-fetch-site") == "cross-site":
            # A link on another site's page: the browser keeps the cookie back, until our own page asks.
            return HTMLResponse(_AGAIN, headers={"cache-control": "no-store"})
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{LOGIN}?next={quote(path + query)}", 303)

    async def _log_in(self, request: Request) -> Response:
        if not self._needs_key:
            return RedirectResponse(f"{PATH}/", 303)
        if request.method != "POST":
            return _page(login_page(wanted=_wanted(request.query_params.get("next"))))
        fields = await _form(request)
        if fields is None:
            return _page(login_page(wanted=f"{PATH}/", problem="That is too long to be a key."), 413)
        key, wanted = fields.get("key", "").strip(), _wanted(fields.get("next"))
        try:
            if not key or not key.isascii() or not key.isprintable():
                raise ApiError(401, "Enter an API key." if not key else "This API key is not valid here.")
            visitor = await self._check(key)
        except ApiError as error:
            return _page(login_page(wanted=wanted, problem=str(error)), error.status or 503)
        answer = RedirectResponse(wanted, 303)
        answer.set_cookie(
            COOKIE,
            self._sessions.open(visitor),
            path=PATH,
            httponly=True,
            samesite="strict",
            secure=request.headers.get("x-forwarded-proto") == "https",
        )
        return answer

    def _log_out(self, request: Request) -> Response:
        if request.method != "POST":
            return RedirectResponse(f"{PATH}/", 303)
        self._sessions.close(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")
        return answer


def _page(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers={"cache-control": "no-store"})


def _is_of_this_site(request: Request) -> bool:
    """Browsers say where the page is from that asks; what says nothing is no browser, and has no cookie by chance."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")  # "null" of pages that are kept apart
    return origin is None or origin.partition("//")[2] == request.headers.get("host", "")


def _wanted(path: str | None) -> str:
    """Where to go after the login: a page of ours, whatever the link says."""
    if path is None or not path.startswith(f"{PATH}/") or "\\" in path or not path.isprintable():
        return f"{PATH}/"
    return path


async def _form(request: Request) -> dict[str, str] | None:
    """None: it is longer than a key and a path are."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            return None
    return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=8))
