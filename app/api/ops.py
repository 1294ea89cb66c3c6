"""The server's own routes: health, metrics, what there is."""

from __future__ import annotations

import asyncio
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import PlainTextResponse, Response

from app import __version__
from app.api.models import json_response
from app.api.openapi import ERRORS, query_parameter
from app.api.record import record_of
from app.api.schemas import Health, ServerInfo
from app.errors import Draining
from app.fleet.requests import FleetAPI, ModelsAPI
from app.tasks.registry import TASKS
from app.telemetry import Telemetry

ASSETS = "/docs/assets"
METRICS_EXTRA = {"parameters": [query_parameter("name[]", "Only the metric of this name; it may stand several times.")]}
_PAGE_HEADERS = {
    # The page has a script of its own, which only this server's files and answers go with.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


def ops_router(fleet: FleetAPI, telemetry: Telemetry, *, has_docs: bool) -> APIRouter:
    router = APIRouter(tags=["server"], responses=ERRORS)

    @router.head("/livez", include_in_schema=False)
    @router.get("/livez", responses={200: {"content": {"text/plain": {"example": "ok"}}}})
    async def livez() -> Response:
        """Whether the server's event loop turns: `ok`, whatever the models do."""
        return PlainTextResponse("ok")

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", responses={200: {"content": {"text/plain": {"example": "ok"}}}})
    async def readyz() -> Response:
        """Whether new requests are accepted: 503 while draining. Waits for no model."""
        if not fleet.is_accepting:
            raise Draining("The server is shutting down and takes no new requests.")
        return PlainTextResponse("ok")

    @router.head("/ping", include_in_schema=False)
    @router.get("/ping", responses={200: {"model": Health}}, summary="SageMaker's health check, the same as /health.")
    @router.head("/health", include_in_schema=False)
    @router.get("/health", responses={200: {"model": Health}})
    async def health() -> Response:
        """200 as long as the server answers at all, as Hugging Face's clients ask."""
        return json_response(Health(status="ok" if fleet.is_accepting else "draining"))

    @router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, openapi_extra=METRICS_EXTRA)
    async def metrics(request: Request) -> Response:
        """Prometheus metrics; OpenMetrics for who asks in `Accept`."""
        telemetry.refresh(fleet.changed_statuses(), fleet.device_uses(), num_tasks=len(asyncio.all_tasks()))
        names = request.query_params.getlist("name[]")
        body, media_type = await asyncio.to_thread(telemetry.render, request.headers.get("accept", ""), names)
        return Response(body, headers={"content-type": media_type})

    @router.get("/", responses={200: {"model": ServerInfo}})
    async def root(request: Request) -> Response:
        """What this server is and serves."""
        return json_response(_server_info(record_of(request.scope).fleet, has_docs=has_docs))

    return router


def _server_info(fleet: ModelsAPI, *, has_docs: bool) -> ServerInfo:
    specs = list(fleet.entries())
    serving = {task: [spec.id for spec in specs if task in spec.all_tasks] for task in TASKS}
    docs = {"docs": "/docs", "openapi": "/openapi.json"} if has_docs else {}
    return ServerInfo(
        name="pipeserve",
        version=__version__,
        tasks={task: ids for task, ids in serving.items() if ids},
        links={**docs, "models": "/v1/models", "metrics": "/metrics"},
    )


def install_docs(app: FastAPI) -> None:
    """`/docs` from files on this machine: a server in a closed network has its documentation too."""
    app.mount(ASSETS, StaticFiles(directory=str(files("fastapi_offline") / "static")), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="Pipeserve",
            swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{ASSETS}/favicon.png",
        )
        page.headers.update(_PAGE_HEADERS)
        return page
