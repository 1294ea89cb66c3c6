"""`/v1/usage`: what was used with each key, and what is left of its limits."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.access.clients import Client, Clients
from app.access.keys import ADMIN
from app.access.limits import Bucket
from app.access.usage import Used
from app.api.models import json_response
from app.api.openapi import ERRORS
from app.api.record import record_of


class UsedModel(BaseModel):
    """Of one model, or of all."""

    jobs: int = Field(description="Answers that were computed, or kept (`cache:`).")
    input_tokens: int = Field(description="Read; of files, what counts as a token.")
    output_tokens: int = Field(description="Written, by models that generate text.")
    seconds: float = Field(description="Of computing; of a forward that was shared, its share.")


class Limit(BaseModel):
    limit: int
    remaining: int


class KeyUsage(UsedModel):
    key: str
    scopes: list[str]
    is_valid: bool = Field(description="false: revoked, or expired.")
    expires_at: float | None = Field(description="Unix time.")
    requests: int = Field(description="Over HTTP, whatever came of them.")
    limited: int = Field(description="Refused for a limit of the key.")
    open: int = Field(description="Being answered now.")
    limits: dict[str, Limit] = Field(description="requests and tokens a minute, and concurrent: those that it has.")
    models: dict[str, UsedModel]


class UsageList(BaseModel):
    object: str = "list"
    since: float = Field(description="Unix time of the server's start, from which on all is counted.")
    data: list[KeyUsage]


def usage_router(clients: Clients, *, since: float) -> APIRouter:
    router = APIRouter(tags=["server"], responses=ERRORS)

    @router.get("/v1/usage", responses={200: {"model": UsageList}})
    async def usage(request: Request) -> Response:
        """What was used with the key of the request, or with every key for one of the scope admin."""
        caller = record_of(request.scope).caller
        sees_all = ADMIN in caller.scopes
        shown = [_usage_of(one, clients) for one in clients if sees_all or one.key.name == caller.name]
        return json_response(UsageList(since=since, data=shown))

    return router


def _usage_of(client: Client, clients: Clients) -> KeyUsage:
    key, usage = client.key, client.usage
    concurrent = key.allowance.concurrent
    limits = {name: _limit(bucket, client.now()) for name, bucket in client.buckets.items()}
    if concurrent is not None:
        limits["concurrent"] = Limit(limit=concurrent, remaining=max(0, concurrent - client.num_open))
    return KeyUsage(
        key=key.name,
        scopes=sorted(key.scopes),
        is_valid=clients.is_valid(client),
        expires_at=key.expires_at,
        requests=usage.requests,
        limited=usage.limited,
        open=client.num_open,
        limits=limits,
        models={model: _used(used) for model, used in usage.by_model.items()},
        **_used(usage.total()).model_dump(),
    )


def _limit(bucket: Bucket, now: float) -> Limit:
    return Limit(limit=bucket.per_minute, remaining=bucket.remaining(now))


def _used(used: Used) -> UsedModel:
    return UsedModel(
        jobs=used.jobs,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        seconds=round(used.seconds, 6),
    )
