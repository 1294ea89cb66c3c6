"""`/info`: a model in the words of Text Generation Inference or Text Embeddings Inference, whichever would serve it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from app import __version__
from app.api.call import read_query
from app.api.names import named
from app.api.openapi import ERRORS, query_parameter
from app.api.record import record_of
from app.api.schemas import ModelInfo
from app.errors import NotServed
from app.fleet.requests import ModelsAPI, ModelStatus

_EMBEDDING_TASKS = ("feature-extraction", "sentence-similarity")


class EmbeddingInfo(ModelInfo):
    """Of everything but text generation."""

    served_model_name: str
    model_type: dict[str, Any] | None = Field(description="embedding, reranker or classifier; null for other models.")
    max_concurrent_requests: int
    max_batch_tokens: int
    max_batch_requests: int
    max_client_batch_size: int = Field(description="Inputs of one request.")
    auto_truncate: bool
    tokenization_workers: int


class GenerationInfo(ModelInfo):
    """Of text generation."""

    max_concurrent_requests: int
    max_input_tokens: int | None
    max_total_tokens: int | None
    max_client_batch_size: int
    validation_workers: int
    router: str


INFO = EmbeddingInfo | GenerationInfo


def model_info_of(status: ModelStatus) -> EmbeddingInfo | GenerationInfo:
    spec = status.spec
    common: dict[str, Any] = {
        "model_id": spec.id,
        "model_sha": spec.revision,
        "model_dtype": status.dtype,
        "model_device_type": status.device,
        "model_pipeline_tag": spec.tasks[0] if spec.tasks else None,
        "max_input_length": status.max_length,
        "state": status.state,
        "version": __version__,
        "max_concurrent_requests": spec.queue.max_items,
        "max_client_batch_size": spec.queue.max_items,
    }
    if spec.tasks[:1] == ("text-generation",):
        limit = status.max_length
        return GenerationInfo(
            **common, max_input_tokens=limit, max_total_tokens=limit, validation_workers=1, router="pipeserve"
        )
    return EmbeddingInfo(
        **common,
        served_model_name=spec.id,
        model_type=_model_type(status),
        max_batch_tokens=spec.batch.max_tokens,
        max_batch_requests=spec.batch.max_items,
        auto_truncate=True,
        tokenization_workers=1,
    )


def _model_type(status: ModelStatus) -> dict[str, Any] | None:
    tasks = status.spec.all_tasks
    if any(task in _EMBEDDING_TASKS for task in tasks[:1]):
        return {"embedding": {"pooling": status.spec.pooling}}
    if "text-ranking" in tasks:
        return {"reranker": {}}
    return {"classifier": {}} if "text-classification" in tasks else None


def info_router() -> APIRouter:
    router = APIRouter(tags=["other servers' clients"], responses=ERRORS)

    @router.get("/info", responses={200: {"model": INFO}}, openapi_extra={"parameters": [MODEL]})
    async def info(request: Request) -> Response:
        """The model that `?model=` names, else the first declared, as the server that would serve it describes it."""
        name = named(read_query(request.scope["query_string"], ("model",)).get("model"))
        return Response(
            model_info_of(_status(record_of(request.scope).fleet, name)).model_dump_json(),
            media_type="application/json",
        )

    return router


MODEL = query_parameter("model", "A declared model.")


def _status(fleet: ModelsAPI, name: str | None) -> ModelStatus:
    if name is not None:
        return fleet.status(name)
    first = next(iter(fleet.entries()), None)
    if first is None:
        raise NotServed("No model is declared here.", param="model")
    return fleet.status(first.id)
