"""The server's HTTP API, as the pages use it: with the key of the browser that asks."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
import orjson

from app.access.keys import ADMIN
from app.api.schemas import LoadProgress, ModelActivity, ModelCard, ModelDetails, ModelList
from app.client import model_path, told_by, told_in
from app.ui.sessions import Visitor
from app.ui.told import Told

_CONNECT_S = 5.0
_ANSWER_S = 600.0  # a model may have to be downloaded first; the server has limits of its own


class ApiError(Exception):
    """What the server answered in place of what was asked: its own sentence. status 0: it could not be reached."""

    def __init__(self, status: int, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, kw_only=True)
class Answer:
    """total_ms: as the server measured it."""

    content: bytes
    media_type: str
    total_ms: float | None = None
    batch_size: int | None = None

    def json(self) -> Any:
        return orjson.loads(self.content)


@dataclass(frozen=True, kw_only=True)
class Said:
    """A piece of a chat's answer: of what the model says, or of what it thought before that."""

    text: str = ""
    reasoning: str = ""


class Api:
    """Owned by the event loop. Every method raises ApiError. key: None on a server without keys."""

    def __init__(self, told: Told, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._http = httpx2.AsyncClient(
            base_url=told.api_url,
            timeout=httpx2.Timeout(_ANSWER_S, connect=_CONNECT_S),
            verify=_trusting(told) if told.certificate is not None else True,
            trust_env=False,  # no proxy stands between two processes of one machine
            transport=transport,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def visitor(self, key: str) -> Visitor:
        """Who has it: a key without the scope admin sees its own use alone."""
        answer = await self._request("GET", "/v1/usage", key)
        is_admin = any(ADMIN in one["scopes"] for one in answer.json()["data"])
        return Visitor(key=key, may_administer=is_admin)

    async def models(self, key: str | None) -> list[ModelCard]:
        answer = await self._request("GET", "/v1/models", key)
        return ModelList.model_validate_json(answer.content).data

    async def details(self, key: str | None, model: str) -> ModelDetails:
        answer = await self._request("GET", f"{model_path(model)}/details", key)
        return ModelDetails.model_validate_json(answer.content)

    async def media(self, key: str | None, model: str, path: str) -> bytes:
        """A picture, sound or film of the model's folder."""
        answer = await self._request("GET", f"{model_path(model)}/media?path={quote(path, safe='')}", key)
        return answer.content

    async def model(self, key: str | None, model: str) -> ModelCard:
        answer = await self._request("GET", model_path(model), key)
        return ModelCard.model_validate_json(answer.content)

    async def activity(self, key: str | None, model: str) -> ModelActivity:
        answer = await self._request("GET", f"{model_path(model)}/activity", key)
        return ModelActivity.model_validate_json(answer.content)

    async def tell(self, key: str | None, model: str, action: str) -> None:
        """action: unload, pin or unpin."""
        await self._request("POST", f"{model_path(model)}/{action}", key)

    async def load(self, key: str | None, model: str) -> AsyncIterator[LoadProgress]:
        """Its progress, until it is ready."""
        async for name, data in self._events(f"{model_path(model)}/load", key):
            if name == "progress":
                yield LoadProgress.model_validate_json(data)
            elif name == "error":
                raise _failed(orjson.loads(data))

    async def chat(self, key: str | None, body: dict[str, Any]) -> AsyncIterator[Said]:
        """The answer as it is made; calls of tools at its end."""
        calls: list[dict[str, str]] = []
        async for _, data in self._events("/v1/chat/completions", key, orjson.dumps(body)):
            if data == "[DONE]":
                break
            chunk = orjson.loads(data)
            if "error" in chunk:
                raise _failed(chunk)
            for choice in chunk["choices"]:
                delta = choice["delta"]
                _gather(calls, delta.get("tool_calls") or [])
                if delta.get("reasoning_content"):
                    yield Said(reasoning=delta["reasoning_content"])
                if delta.get("content"):
                    yield Said(text=delta["content"])
        for call in calls:
            yield Said(text=f"\n```\n{call['name']}({call['arguments']})\n```\n")

    async def _events(self, path: str, key: str | None, content: bytes | None = None) -> AsyncIterator[tuple[str, str]]:
        """Server-sent events: their names, and their data, which is on one line."""
        headers = {**_headers(key), "accept": "text/event-stream", "content-type": "application/json"}
        try:
            async with self._http.stream("POST", path, headers=headers, content=content) as response:
                if response.is_error:
                    await response.aread()
                    raise _refused(response)
                name = ""
                async for line in response.aiter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        yield name, line.removeprefix("data: ")
        except httpx2.HTTPError as error:
            raise _unreachable(error) from error

    async def ask(self, key: str | None, task: str, model: str, body: dict[str, Any], *, accept: str = "*/*") -> Answer:
        """One request of a task."""
        content = orjson.dumps({"model": model, **body})
        return await self._request(
            "POST", f"/v1/{task}", key, content=content, headers={"content-type": "application/json", "accept": accept}
        )

    async def _request(
        self, method: str, path: str, key: str | None, *, content: bytes | None = None, headers: Any = None
    ) -> Answer:
        try:
            response = await self._http.request(
                method, path, content=content, headers={**_headers(key), **(headers or {})}
            )
        except httpx2.HTTPError as error:
            raise _unreachable(error) from error
        if response.is_error:
            raise _refused(response)
        total_ms, batch_size = response.headers.get("x-total-time"), response.headers.get("x-batch-size")
        return Answer(
            content=response.content,
            media_type=response.headers.get("content-type", "").partition(";")[0],
            total_ms=None if total_ms is None else float(total_ms),
            batch_size=None if batch_size is None else int(batch_size),
        )


def _gather(calls: list[dict[str, str]], deltas: list[dict[str, Any]]) -> None:
    """What a chunk adds to calls of tools: a name first, then pieces of the arguments."""
    for delta in deltas:
        while len(calls) <= delta["index"]:
            calls.append({"name": "", "arguments": ""})
        for part in ("name", "arguments"):
            calls[delta["index"]][part] += (delta.get("function") or {}).get(part) or ""


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


def _trusting(told: Told) -> ssl.SSLContext:
    """The server's own certificate and no other: it is for the name that the world knows it by, not for this one."""
    context = ssl.create_default_context(cafile=told.certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _refused(response: httpx2.Response) -> ApiError:
    message = told_by(response)[0] or f"The server answered {response.status_code}."
    retry_after = response.headers.get("retry-after", "")
    return ApiError(response.status_code, message, retry_after_s=float(retry_after) if retry_after.isdigit() else None)


def _failed(body: Any) -> ApiError:
    """What a stream ended with."""
    return ApiError(500, told_in(body)[0] or "The server broke off its answer.")


def _unreachable(error: Exception) -> ApiError:
    return ApiError(0, f"The server cannot be reached just now ({type(error).__name__}).")
