"""A server that runs, as commands ask it over HTTP, and why it does not answer, in sentences."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer

from app.client import KEY_VARIABLE, client_options, model_path, read_card, told_by

if TYPE_CHECKING:
    import httpx2 as httpx

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 5.0
_ANSWER_S = 3600.0  # longer than a server's own deadline
_MAX_SHOWN = 300  # characters of what another server says


class Trouble(Exception):
    """Why there is no answer: a sentence. advice: for one who has seen none yet. status: of an answer that is an error.
    is_nobody: nobody listens there."""

    def __init__(self, sentence: str, advice: str = "", *, status: int | None = None, is_nobody: bool = False) -> None:
        super().__init__(sentence)
        self.advice = advice
        self.status = status
        self.is_nobody = is_nobody

    @property
    def whole(self) -> str:
        return f"{self} {self.advice}".rstrip()


def checked_url(text: str) -> str:
    """`host:port` is http. Raises ValueError."""
    url = text if "://" in text else f"http://{text}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is no address such as {DEFAULT_URL}.")
    _ = parts.port  # raises for one that is none
    return url.rstrip("/")


def parsed_url(text: str) -> str:
    """Raises BadParameter."""
    try:
        return checked_url(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Url = Annotated[str, typer.Option(envvar="PIPESERVE_URL", parser=parsed_url, metavar="URL", help="The server.")]


class Server:
    """Enter it before it is asked. Every method raises Trouble."""

    def __init__(self, url: str) -> None:
        import httpx2 as httpx

        self.url = url
        self._client = httpx.Client(timeout=httpx.Timeout(_ANSWER_S, connect=CONNECT_S), **client_options())

    def __enter__(self) -> Server:
        self._client.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._client.__exit__(*exception)

    def get(
        self, path: str, query: Mapping[str, Any] | None = None, form: Callable[[Any], Any] = lambda body: body
    ) -> Any:
        """The JSON of the answer, as `form` reads it, which may raise LookupError and TypeError."""
        with self.asked("GET", path, query=query) as response:
            response.read()
            return self._read(response, form)

    def models(self, query: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The cards of those that it serves."""
        cards: list[dict[str, Any]] = self.get(
            "/v1/models", query, lambda body: [read_card(one) for one in body["data"]]
        )
        return cards

    def model(self, name: str) -> dict[str, Any]:
        """Its card."""
        card: dict[str, Any] = self.get(model_path(name), form=read_card)
        return card

    def change(self, name: str, order: str) -> dict[str, Any]:
        """The card of a model that was told to `load`, `unload`, `pin` or `unpin`."""
        return self._read(self.post(f"{model_path(name)}/{order}", headers={"accept": "application/json"}), read_card)

    def events(self, path: str, content: bytes) -> Iterator[Any]:
        """The JSON of each event of a stream, as it comes."""
        import orjson

        with self.asked("POST", path, content, headers={"content-type": "application/json"}) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise Trouble(f"{self.url} is no Pipeserve server: its {path} does not stream.")
            for line in response.iter_lines():
                if line.startswith("data:") and not line.endswith("[DONE]"):
                    yield orjson.loads(line.removeprefix("data:"))

    def _read(self, response: httpx.Response, form: Callable[[Any], T]) -> T:
        try:
            return form(response.json())
        except (ValueError, LookupError, TypeError):
            path = urlsplit(str(response.url)).path
            raise Trouble(f"{self.url} is no Pipeserve server: its {path} is none of ours.", status=200) from None

    def post(self, path: str, content: bytes = b"", *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """A whole answer."""
        with self.asked("POST", path, content, headers=headers) as response:
            response.read()
            return response

    @contextmanager
    def asked(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """An answer of a status below 400, to be read."""
        import httpx2 as httpx

        try:
            with self._client.stream(
                method, self.url + path, content=content, params=query, headers=headers
            ) as response:
                if response.status_code >= 400:
                    response.read()
                    raise Trouble(refusal(response, self.url, path), status=response.status_code)
                yield response
        except httpx.HTTPError as error:
            raise no_answer(error, self.url, CONNECT_S) from None


def no_answer(error: httpx.HTTPError, url: str, timeout_s: float) -> Trouble:
    """Of a server that could not be asked."""
    import httpx2 as httpx

    if isinstance(error, httpx.TimeoutException):
        return Trouble(f"{url} does not answer within {timeout_s:g} s.")
    is_nobody = isinstance(error, httpx.ConnectError)
    return Trouble(f"{url} does not answer: {_reason(error)}.", _advice(error, url), is_nobody=is_nobody)


def refusal(response: httpx.Response, url: str, path: str, *, scopes: str = "infer") -> str:
    """Of an answer that is an error, and has been read. scopes: that a key needs for it, for people."""
    told = (told_by(response)[0] or response.reason_phrase)[:_MAX_SHOWN]
    if response.status_code == 401:
        return f"{url} wants a key: set {KEY_VARIABLE} to one with the scope {scopes}. ({told})"
    if response.status_code == 403:
        return f"{url} does not let this key ({KEY_VARIABLE}) use {path}: {told}"
    if response.status_code == 404 and told == response.reason_phrase:
        return f"{url} is no Pipeserve server: it has no {path}."
    return f"{url}{path} answered {response.status_code}: {told}"


def _reason(error: BaseException) -> str:
    """The innermost cause has the words of the system."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error).rstrip(".") or type(error).__name__


def _advice(error: Exception, url: str) -> str:
    import httpx2 as httpx

    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "SSL_CERT_FILE names the certificates to trust."
    if isinstance(error, httpx.ConnectError):
        return "Is it running? --url or PIPESERVE_URL names another."
    if isinstance(error, httpx.RemoteProtocolError) and url.startswith("http://"):
        return "If it serves over TLS, its URL begins with https://."
    return ""
