"""The application that Ray Serve runs: an ingress, and a deployment for each declared model. Imports ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from ray import serve
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.models import reload_router
from app.catalog import Catalog, ModelSpec, read_catalog
from app.errors import PipeserveError
from app.fleet.launcher import make_launcher
from app.fleet.processes import Launcher
from app.fleet.requests import Reloaded
from app.logs import configure_logging
from app.main import build_app
from app.ray.arguments import Arguments
from app.ray.fleet import RayFleet
from app.ray.handles import ServeHandle
from app.ray.metrics import REPORT_S, Board, ClusterRegistry, Report, encode_report
from app.ray.options import INGRESS_REQUESTS, deployment_options, replica_catalog, replica_cores
from app.ray.replica import ModelReplica, make_replica
from app.resolving import resolve
from app.settings import Settings
from app.telemetry import Telemetry

INGRESS = "ingress"
HEALTH_PERIOD_S = 5.0
_MAX_RESOLVING = 16
_LOGGING = {"enable_access_log": False}
"""Serve's own line for each request and each call between deployments; we have ours."""

logger = logging.getLogger(__name__)


class Model:
    """The actor of a replica, in Serve's words."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, catalog: Catalog, settings: Settings, cores: int
    ) -> None:
        launcher = self.make_launcher(settings)
        self._replica: ModelReplica = make_replica(catalog, settings, launcher, cores=cores, name=_own_name())
        self._tell = partial(_ingresses().tell_all, "hear")
        self._reporting = _begun(self._replica.report(self._tell))
        await self._replica.start()

    def make_launcher(self, settings: Settings) -> Launcher:
        return make_launcher(settings)

    async def submit(self, message: bytes) -> bytes:
        return await self._replica.submit(message)

    async def stream(self, message: bytes) -> Any:
        async for part in self._replica.stream(message):
            yield part

    async def load(self, message: bytes = b"") -> bytes:
        return await self._replica.load(message)

    async def check_health(self) -> None:
        await self._replica.check_health()

    async def __del__(self) -> None:
        """Serve's hook: called once, on the actor's event loop, when no request is left."""
        self._reporting.cancel()
        await self._tell(self._replica.farewell())
        await self._replica.stop()


@serve.ingress()
class Ingress:
    """The HTTP layer of a server of one machine, before a fleet that is somewhere else."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, catalog: Catalog, settings: Settings, models: dict[str, Any]
    ) -> None:
        configure_logging(level=settings.log_level, form=settings.log_format)
        self._catalog, self._settings = catalog, settings
        self._handles = {model_id: ServeHandle(handle) for model_id, handle in models.items()}
        self._board = Board(_own_name(), time.monotonic)
        self._registry = ClusterRegistry(_own_name(), self._board)
        self._telemetry = Telemetry(self._registry)
        self._reporting = _begun(self._report())

    def __serve_build_asgi_app__(self) -> ASGIApp:
        fleet = RayFleet(self._catalog, self._handles, self._board, self._telemetry)
        app = build_app(self._settings, self._catalog, fleet, self._telemetry)

        async def reload() -> Reloaded:
            return fleet.reload(self._catalog)

        app.router.routes[:0] = reload_router(reload).routes
        return _without_request_id(app)

    async def hear(self, message: bytes) -> None:
        """A report of a replica of a model, or of another ingress."""
        self._board.put(message)

    async def _report(self) -> None:
        siblings = _ingresses()
        while True:
            families = await asyncio.to_thread(self._registry.own)
            await siblings.tell_all("hear", encode_report(Report(replica=_own_name(), families=families)))
            await asyncio.sleep(REPORT_S)


def _begun(reporting: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    def on_done(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("reports to the ingresses have ended. This is a bug.", exc_info=error)

    task = asyncio.create_task(reporting, name="reports")
    task.add_done_callback(on_done)
    return task


def _without_request_id(app: ASGIApp) -> ASGIApp:
    """Serve's proxy takes `X-Request-ID` or makes one, and puts it into the answer: ours would be there twice."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [header for header in message["headers"] if header[0] != b"x-request-id"]
            await send(message)

        await app(scope, receive, send_once)

    return wrapped


def _own_name() -> str:
    return str(serve.get_replica_context().replica_id.unique_id)


def _ingresses() -> ServeHandle:
    return ServeHandle(serve.get_deployment_handle(INGRESS, serve.get_replica_context().app_name))


def application_of(arguments: Arguments) -> Any:
    """Raises CatalogError."""
    return make_application(arguments.settings(), ingress_replicas=arguments.ingress_replicas)


def make_application(settings: Settings, *, ingress_replicas: int = 1, model: type[Model] = Model) -> Any:
    """As `serve.run` takes it. Reads models.yaml, and the small files of its models, where it is called. model: what
    a replica is. Raises CatalogError."""
    catalog = asyncio.run(_resolved(read_catalog(settings.models)))
    models = {
        spec.id: _model_deployment(catalog, spec, settings, model) for spec in catalog.models if spec.problem is None
    }
    ingress = serve.deployment(Ingress).options(
        name=INGRESS,
        num_replicas=ingress_replicas,
        max_ongoing_requests=INGRESS_REQUESTS,
        graceful_shutdown_timeout_s=settings.drain_s,
        ray_actor_options={"num_cpus": 0},  # what all else is reached through must not wait for room
        logging_config=_LOGGING,
    )
    return ingress.bind(catalog, settings, models)


def _model_deployment(catalog: Catalog, spec: ModelSpec, settings: Settings, model: type[Model]) -> Any:
    options = deployment_options(spec, drain_s=settings.drain_s)
    deployment = serve.deployment(model).options(
        **options, health_check_period_s=HEALTH_PERIOD_S, logging_config=_LOGGING
    )
    # Neither keys nor the whole catalogue: a replica is the same, and goes on, whatever changes about other models.
    own = msgspec.structs.replace(replica_catalog(catalog, spec), source="")
    return deployment.bind(own, _for_replica(settings), replica_cores(spec))


def _for_replica(settings: Settings) -> Settings:
    return replace(settings, models=Path("models.yaml"), keys=(), keys_file=None, tls=None, cors_origins=())


async def _resolved(catalog: Catalog) -> Catalog:
    turns = asyncio.Semaphore(_MAX_RESOLVING)

    async def found(spec: ModelSpec) -> ModelSpec:
        if spec.is_resolved or spec.problem is not None:
            return spec
        async with turns:
            try:
                return await resolve(spec)
            except PipeserveError as error:
                return msgspec.structs.replace(spec, problem=error.message)

    return msgspec.structs.replace(catalog, models=tuple(await asyncio.gather(*map(found, catalog.models))))
