"""A server as `pipeserve top` asks it, over HTTP."""

from __future__ import annotations

import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import httpx2 as httpx

from app.cli.server import Trouble, no_answer, refusal
from app.cli.top.samples import NAMES, Card, NotPipeserve, Sample, read_cards, read_sample
from app.client import client_options

TIMEOUT_S = 5.0
_MOVING = ("loading", "ready", "unloading", "failed")
"""States that are no rest: there may be a hundred thousand models in the others."""


class Source:
    """Owned by an event loop; enter it before it is asked."""

    def __init__(self, url: str, *, shows_all: bool) -> None:
        self.url = url
        self.shows_all = shows_all
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, **client_options())

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
            raise Trouble(refusal(metrics, self.url, "/metrics", scopes="admin, or metrics"))
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
            raise Trouble(refusal(response, self.url, "/v1/models"))
        return read_cards(response.content)

    async def _get(self, path: str, query: dict[str, Any]) -> httpx.Response:
        try:
            return await self._client.get(self.url + path, params=query)
        except httpx.HTTPError as error:
            raise no_answer(error, self.url, TIMEOUT_S) from None


def _time_of(response: httpx.Response) -> float:
    """By the server's clock, which may differ from ours."""
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()
