"""A server as `pipeserve top` asks it, over HTTP."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from app.cli.top.samples import NAMES, Card, NotPipeserve, Sample, read_cards, read_sample

KEY_VARIABLE = "PIPESERVE_API_KEY"
TIMEOUT_S = 5.0
_MAX_SHOWN = 300  # characters of what another server says
_MOVING = ("loading", "ready", "unloading", "failed")
"""States that are no rest: there may be a hundred thousand models in the others."""


class Trouble(Exception):
    """Why there are no figures: a sentence. advice: for one who has seen none yet."""

    def __init__(self, sentence: str, advice: str = "") -> None:
        super().__init__(sentence)
        self.advice = advice


def checked_url(text: str) -> str:
    """`host:port` is http. Raises ValueError."""
    url = text if "://" in text else f"http://{text}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is no address such as http://127.0.0.1:8000.")
    _ = parts.port  # raises for one that is none
    return url.rstrip("/")


class Source:
    """Owned by an event loop; enter it before it is asked. key: "" for a server without keys."""

    def __init__(self, url: str, key: str, *, shows_all: bool) -> None:
        self.url = url
        self.shows_all = shows_all
        # What is on this machine is reached without the proxy that the environment may name for all else.
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT_S,
            mounts={f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")},
        )

    async def __aenter__(self) -> Source:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def sample(self) -> Sample:
        """Raises Trouble."""
        metrics = await self._get("/metrics", {"name[]": list(NAMES)})
        if metrics.status_code != 200:
            raise Trouble(self._refusal(metrics, "/metrics"))
        try:
            sample = read_sample(metrics.text, at=time.monotonic(), server_time=_time_of(metrics))
            return replace(sample, cards=await self._cards())
        except NotPipeserve as error:
            raise Trouble(f"{self.url} is no Pipeserve server: {error}.") from None

    async def _cards(self) -> dict[str, Card] | None:
        """None: the key is for metrics alone."""
        response = await self._get("/v1/models", {} if self.shows_all else {"state": list(_MOVING)})
        if response.status_code == 403:
            return None
        if response.status_code != 200:
            raise Trouble(self._refusal(response, "/v1/models"))
        return read_cards(response.content)

    async def _get(self, path: str, query: dict[str, Any]) -> httpx.Response:
        try:
            return await self._client.get(self.url + path, params=query)
        except httpx.TimeoutException:
            raise Trouble(f"{self.url} does not answer within {TIMEOUT_S:g} s.") from None
        except httpx.HTTPError as error:
            sentence = f"{self.url} does not answer: {_reason(error)}."
            raise Trouble(sentence, _advice(error, self.url)) from None

    def _refusal(self, response: httpx.Response, path: str) -> str:
        told = _told(response)
        if response.status_code == 401:
            return f"{self.url} wants a key: set {KEY_VARIABLE} to one with the scope admin, or metrics. ({told})"
        if response.status_code == 403:
            return f"{self.url} does not let this key ({KEY_VARIABLE}) read {path}: {told}"
        if response.status_code == 404:
            return f"{self.url} is no Pipeserve server: it has no {path}."
        return f"{self.url}{path} answered {response.status_code}: {told}"


def _time_of(response: httpx.Response) -> float:
    """By the server's clock, which may differ from ours."""
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()


def _told(response: httpx.Response) -> str:
    """The server's own sentence, in any dialect of its errors."""
    try:
        error = response.json()["error"]
        text = error if isinstance(error, str) else error["message"]
    except (ValueError, LookupError, TypeError):
        text = response.reason_phrase
    return str(text)[:_MAX_SHOWN]


def _reason(error: BaseException) -> str:
    """The innermost cause has the words of the system."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error).rstrip(".") or type(error).__name__


def _advice(error: Exception, url: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "SSL_CERT_FILE names the certificates to trust."
    if isinstance(error, httpx.ConnectError):
        return "Is it running? --url or PIPESERVE_URL names another."
    if isinstance(error, httpx.RemoteProtocolError) and url.startswith("http://"):
        return "If it serves over TLS, its URL begins with https://."
    return ""
