"""`/v1/models`: what is declared, in which state, and loading and unloading by hand. Errors are in OpenAI's shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import FileResponse, Response

from app.activity import STEP_S, WINDOW_S, Activity
from app.api.anthropic.models import (
    AnthropicModel,
    AnthropicModelList,
    anthropic_list,
    anthropic_model,
    is_for_anthropic,
)
from app.api.call import read_query
from app.api.dialects.info import INFO, model_info_of
from app.api.errors import openai_body
from app.api.listing import LISTING_EXTRA, page_of, read_listing
from app.api.names import split_name
from app.api.openapi import ERRORS, OPENAI_ERRORS, query_parameter
from app.api.record import RequestRecord, record_of
from app.api.schemas import (
    Health,
    ModelActivity,
    ModelCard,
    ModelDetails,
    ModelList,
    OpenAIError,
    ReloadAnswer,
    activity_answer,
    model_card,
    reload_answer,
    tuning_of,
)
from app.api.sse import event, stream_events
from app.catalog import ModelSpec, cached_files
from app.channel.messages import Progress
from app.declaration.about import find_media, read_about
from app.errors import Forbidden, InvalidInput, ModelFailed, NotServed
from app.fleet.requests import ModelsAPI, ModelStatus, Reloaded
from app.tuning.choices import Choice


def json_response(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")


def _declared(fleet: ModelsAPI, path: str) -> str:
    """The id that is this path, nothing more. Raises NotServed."""
    model_id, rest = split_name(fleet, path)
    if rest:
        raise NotServed(
            f'There is no model "{path.strip("/")}" here; GET /v1/models lists what there is.', param="model"
        )
    return model_id


def _fleet(request: Request) -> ModelsAPI:
    return record_of(request.scope).fleet


def _status(request: Request, path: str) -> ModelStatus:
    """Of the model that is this path. Raises NotServed."""
    fleet = _fleet(request)
    return fleet.status(_declared(fleet, path))


def _administered(record: RequestRecord, path: str) -> str:
    """As `_declared`, for one who may load and unload. Raises Forbidden."""
    record.demand_admin()
    record.model = _declared(record.fleet, path)
    return record.model


def models_router(
    *, created: int, recent: Callable[[str], int], activity: Activity, tuned: Callable[[ModelSpec], list[Choice]]
) -> APIRouter:
    """created: the unix time that OpenAI's `created` shows. recent: how many requests a model had in the last hours.
    tuned: what was measured for an entry; called in a thread."""
    router = APIRouter(tags=["models"], responses=OPENAI_ERRORS)

    @router.get("/v1/models", responses={200: {"model": ModelList | AnthropicModelList}}, openapi_extra=LISTING_EXTRA)
    async def list_models(request: Request) -> Response:
        """Every declared model, or those in some states: tasks, device, memory, last use; behind each its adapters.
        With the header `anthropic-version`: as Anthropic lists them."""
        page, has_more = page_of(_fleet(request), read_listing(request.query_params))
        cards = [model_card(status, created=created, recent=recent) for status in page]
        if is_for_anthropic(request):
            return json_response(anthropic_list(cards, has_more=has_more))
        return json_response(ModelList(data=cards, has_more=has_more))

    @router.get("/v1/models/{model_id:path}/details", responses={200: {"model": ModelDetails}})
    async def get_details(model_id: str, request: Request) -> Response:
        """What a model's page shows: its card, files, figures and adapters. Read from this disk, asking nobody."""
        status = _status(request, model_id)
        about, choices = await asyncio.to_thread(
            lambda: (read_about(cached_files(status.spec)), tuned(status.spec)),
        )
        card, *adapters = (model_card(one, created=created, recent=recent) for one in status.with_adapters())
        fleet, tuning = _fleet(request), [tuning_of(choice, status.spec) for choice in choices]
        others = [one.id for one in fleet.entries() if one.model == status.spec.model and one.id != status.spec.id]
        variants = [model_card(fleet.status(name), created=created, recent=recent) for name in others]
        return json_response(
            ModelDetails(model=card, adapters=adapters, variants=variants, tuning=tuning, **msgspec.to_builtins(about))
        )

    @router.get("/v1/models/{model_id:path}/activity", responses={200: ACTIVITY_ANSWER})
    async def get_activity(model_id: str, request: Request) -> Response:
        """What the model did in the last minutes, step by step: requests, latencies, waiting, tokens. For charts."""
        status = _status(request, model_id)
        return json_response(activity_answer(status, activity))

    @router.get("/v1/models/{model_id:path}/media", responses={200: MEDIA_ANSWER}, openapi_extra=MEDIA_EXTRA)
    async def get_media(model_id: str, request: Request) -> Response:
        """A picture, sound or film of the model's folder: what its card gives as examples."""
        status = _status(request, model_id)
        path = read_query(request.scope["query_string"], ("path",)).get("path", "")
        found = await asyncio.to_thread(lambda: find_media(cached_files(status.spec), path))
        if found is None:
            raise NotServed(f'There is no picture, sound or film "{path}" in the folder of this model.', param="path")
        return FileResponse(found[0], media_type=found[1])

    @router.get("/v1/models/{model_id:path}", responses={200: {"model": ModelCard | AnthropicModel}})
    async def get_model(model_id: str, request: Request) -> Response:
        """One declared model, by id or alias; ids may hold slashes. With the header `anthropic-version`: as Anthropic
        tells of it."""
        card = model_card(_status(request, model_id), created=created, recent=recent)
        return json_response(anthropic_model(card) if is_for_anthropic(request) else card)

    @router.post("/v1/models/{model_id:path}/load", responses={200: LOAD_ANSWER}, openapi_extra=LOAD_EXTRA)
    async def load_model(model_id: str, request: Request) -> Response:
        """Load the model, if it is not: progress as server-sent events (`progress`, then `ready` or `error`).

        With `Accept: application/json` or `?wait=true` the answer is the model's card once it is ready.
        """
        record = record_of(request.scope)
        progress = record.fleet.load(_administered(record, model_id))
        if _wants_json(request):
            return json_response(model_card(await _last_status(progress), created=created, recent=recent))
        return await stream_events(
            progress,
            record,
            to_event=lambda item: _load_event(item, created, recent),
            error_event=lambda error: event(
                "error", openai_body(error, f"{error.message} (request id {record.request_id})")
            ),
        )

    @router.post("/v1/models/{model_id:path}/unload", responses={200: {"model": ModelCard}})
    async def unload_model(model_id: str, request: Request) -> Response:
        """End the model's workers once their running jobs are answered."""
        record = record_of(request.scope)
        status = await record.fleet.unload(_administered(record, model_id))
        return json_response(model_card(status, created=created, recent=recent))

    @router.post("/v1/models/{model_id:path}/pin", responses={200: {"model": ModelCard}})
    async def pin_model(model_id: str, request: Request) -> Response:
        """Keep the model: it is neither evicted for others nor unloaded for idleness, as with `pinned: true`.

        Until it is unpinned or unloaded by request, its entry changes, or the server ends. One that is not loaded is
        not loaded by it, and takes no memory.
        """
        record = record_of(request.scope)
        status = record.fleet.pin(_administered(record, model_id))
        return json_response(model_card(status, created=created, recent=recent))

    @router.post("/v1/models/{model_id:path}/unpin", responses={200: {"model": ModelCard}})
    async def unpin_model(model_id: str, request: Request) -> Response:
        """Keep the model no longer than others, also one whose entry says `pinned`: it may be unloaded at once."""
        record = record_of(request.scope)
        status = record.fleet.unpin(_administered(record, model_id))
        return json_response(model_card(status, created=created, recent=recent))

    return router


def reload_router(reload: Callable[[], Awaitable[Reloaded]]) -> APIRouter:
    router = APIRouter(tags=["models"], responses=OPENAI_ERRORS)

    @router.post("/v1/models/reload", responses=RELOAD_ANSWERS)
    async def reload_models(request: Request) -> Response:
        """Read models.yaml again, as SIGHUP does: what was added, changed and removed. No request is lost by it."""
        record = record_of(request.scope)
        record.demand_admin()
        if record.caller.is_restricted:
            raise Forbidden(f'The key "{record.caller.name}" is for some models or tasks; models.yaml is about all.')
        return json_response(reload_answer(await reload()))

    return router


RELOAD_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": ReloadAnswer},
    409: {"model": OpenAIError, "description": "The file is wrong, as `pipeserve check` says; nothing is changed."},
}

ACTIVITY_ANSWER: dict[str, Any] = {
    "model": ModelActivity,
    "content": {
        "application/json": {
            "example": {
                "id": "reviews", "state": "ready", "in_flight": 4, "queued": 1, "window_s": WINDOW_S, "step_s": STEP_S,
                "points": [
                    {
                        "age_s": 0.4, "requests": 212, "failed": 0, "p50_s": 0.018, "p99_s": 0.035, "waiting": 0.9,
                        "generated_tokens": 0,
                    }
                ],
            }
        }
    },
}  # fmt: skip

LOAD_ANSWER: dict[str, Any] = {
    "model": ModelCard,
    "description": "The model is ready (JSON), or the stream of its progress.",
    "content": {
        "text/event-stream": {
            "schema": {"description": "Server-sent events: `progress`, then `ready` or `error`."},
            "example": 'event: progress\ndata: {"phase":"load","done":0,"total":0}\n\nevent: ready\ndata: {...}\n\n',
        }
    },
}

MEDIA_ANSWER: dict[str, Any] = {
    "description": "The file.",
    "content": {
        f"{kind}/*": {"schema": {"type": "string", "format": "binary"}} for kind in ("image", "audio", "video")
    },
}

MEDIA_EXTRA = {"parameters": [query_parameter("path", "Of the file within the model's folder, as `details` has it.")]}

LOAD_EXTRA = {"parameters": [query_parameter("wait", "true: answer with the model's card once it is ready.")]}


def _wants_json(request: Request) -> bool:
    wait = read_query(request.scope["query_string"], ("wait",)).get("wait")
    if wait not in (None, "true", "1"):
        raise InvalidInput("wait must be true; without it the answer is a stream.", param="wait")
    accept = request.headers.get("accept", "")
    return wait is not None or ("application/json" in accept and "text/event-stream" not in accept)


async def _last_status(progress: AsyncIterator[Progress | ModelStatus]) -> ModelStatus:
    status: ModelStatus | None = None
    async for item in progress:
        if isinstance(item, ModelStatus):
            status = item
    assert status is not None, "A load ended without a status. This is a bug."
    return status


def _load_event(item: Progress | ModelStatus, created: int, recent: Callable[[str], int]) -> bytes:
    if isinstance(item, Progress):
        return event("progress", {name: getattr(item, name) for name in ("phase", "done", "total")})
    return event("ready", model_card(item, created=created, recent=recent).model_dump())


def model_pages_router() -> APIRouter:
    """What Hugging Face's clients ask below a model's URL."""
    router = APIRouter(prefix="/models", tags=["models"], responses=ERRORS)

    @router.get("/{model_id:path}/ping", responses={200: {"model": Health}}, summary="The same as its /health.")
    @router.get("/{model_id:path}/health", responses={200: {"model": Health}})
    async def model_health(model_id: str, request: Request) -> Response:
        """200 unless the model cannot start. A model that is not loaded yet is well: it loads at its first request."""
        status = _status(request, model_id)
        if status.state == "failed":
            raise ModelFailed(status.reason or f'"{status.spec.id}" cannot start.')
        return json_response(Health(status=status.state))

    @router.get("/{model_id:path}/info", responses={200: {"model": INFO}})
    async def model_info(model_id: str, request: Request) -> Response:
        """The model in the words of Hugging Face's own servers, of the one that would serve it."""
        return json_response(model_info_of(_status(request, model_id)))

    return router
