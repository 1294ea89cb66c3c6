"""A replica of one model: a fleet of our own with one entry, in an actor of Ray Serve. Admission, the worker process,
the batcher, the engine, and what happens when a worker dies are those of a server of one machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import msgspec
from prometheus_client import CollectorRegistry

from app.catalog import Catalog
from app.environments.places import environments_of
from app.errors import PipeserveError
from app.fleet.fleet import Fleet
from app.fleet.launcher import EnvironmentsLauncher
from app.fleet.processes import Launcher
from app.fleet.requests import FleetAPI, JobRequest, JobResult
from app.logs import configure_logging
from app.ray.metrics import REPORT_S, Report, encode_report, families_of
from app.ray.wire import Answered, Parts, Refused, Standing, decode_request, encode
from app.settings import Settings
from app.tasks.completion import Delta
from app.telemetry import Telemetry
from app.tuning.choices import FILE, Choices, decider

logger = logging.getLogger(__name__)


class UnhealthyReplica(Exception):
    """For Serve, which replaces the replica."""


class ModelReplica:
    """Owned by the event loop of the actor's own code. Its methods take and give bytes of `wire`, and raise nothing of
    ours: errors are answers."""

    def __init__(self, catalog: Catalog, fleet: FleetAPI, telemetry: Telemetry, *, name: str) -> None:
        """catalog: of the one model. name: of this replica."""
        (spec,) = catalog.models
        self._model_id = spec.id
        self._name = name
        self._fleet = fleet
        self._telemetry = telemetry
        self._has_been_ready = False
        telemetry.declare(catalog.models)

    async def start(self) -> None:
        """Until the model is loaded, so that no request is sent to a replica that would have it wait. One that cannot
        be loaded has a replica too, which says why."""
        await self._fleet.start()
        await self.load()

    async def load(self, _message: bytes = b"") -> bytes:
        try:
            async for _ in self._fleet.load(self._model_id):
                pass
        except PipeserveError as error:
            logger.warning("%s", error.message)
            return encode(Refused.by(error))
        return encode(Standing(status=self._fleet.status(self._model_id)))

    async def submit(self, message: bytes) -> bytes:
        try:
            return encode(Answered(result=await self._fleet.submit(decode_request(message))))
        except PipeserveError as error:
            return encode(Refused.by(error))

    async def stream(self, message: bytes) -> AsyncGenerator[bytes, None]:
        """Parts that came while the last ones were sent go together: each message of Ray's costs a hundred times what
        one of the channel's does."""
        request = decode_request(message)
        try:
            async with aclosing(_gathered(self._fleet, request)) as parts:
                async for part in parts:
                    yield encode(Parts(deltas=part) if isinstance(part, list) else Answered(result=part))
        except PipeserveError as error:
            yield encode(Refused.by(error))

    async def report(self, tell: Callable[[bytes], Awaitable[None]]) -> None:
        """To the ingresses, until it is cancelled."""
        while True:
            self._telemetry.refresh(self._fleet.changed_statuses(), num_tasks=len(asyncio.all_tasks()))
            families = await asyncio.to_thread(lambda: families_of(self._telemetry.registry.collect()))
            status = self._fleet.status(self._model_id)
            await tell(encode_report(Report(replica=self._name, status=status, families=families)))
            await asyncio.sleep(REPORT_S)

    def farewell(self) -> bytes:
        """The last report."""
        return encode_report(Report(replica=self._name, is_last=True))

    async def check_health(self) -> None:
        """A worker that dies is replaced within the replica. The replica is replaced, perhaps on another node, where
        no worker can be started any more though one could before."""
        status = self._fleet.status(self._model_id)
        self._has_been_ready = self._has_been_ready or status.state == "ready"
        if self._has_been_ready and status.state == "failed":
            raise UnhealthyReplica(status.reason or f'"{self._model_id}" has no worker.')

    async def stop(self) -> None:
        await self._fleet.stop()


async def _gathered(fleet: FleetAPI, request: JobRequest) -> AsyncGenerator[list[Delta] | JobResult, None]:
    """What a stream gives, the parts that are there at a time together."""
    deltas: list[Delta] = []
    news = asyncio.Event()

    async def read() -> JobResult:
        result: JobResult | None = None
        try:
            async with aclosing(fleet.stream(request)) as parts:
                async for part in parts:
                    if isinstance(part, JobResult):
                        result = part
                    else:
                        deltas.append(part)
                        news.set()
        finally:
            news.set()
        assert result is not None, "A stream ended without its result. This is a bug."
        return result

    reader = asyncio.create_task(read(), name=f"stream of {request.model_id}")
    try:
        while not reader.done() or deltas:
            await news.wait()
            news.clear()
            if deltas:
                taken, deltas[:] = list(deltas), []
                yield taken
        yield await reader
    finally:
        if not reader.done():
            reader.cancel()
            await asyncio.wait({reader})
        if not reader.cancelled():
            reader.exception()  # seen, whether anybody waited for it or not


def make_replica(catalog: Catalog, settings: Settings, launcher: Launcher, *, cores: int, name: str) -> ModelReplica:
    """Of a catalogue of one model, on this node. launcher: of workers in this environment."""
    configure_logging(level=settings.log_level, form=settings.log_format)
    environments = environments_of(catalog, settings.cache_dir)
    decide = decider(Choices(settings.cache_dir / FILE), environments)
    catalog = msgspec.structs.replace(catalog, models=tuple(decide(spec) for spec in catalog.models))
    launcher = EnvironmentsLauncher(launcher, environments, log_level=settings.log_level, cache_dir=settings.cache_dir)
    telemetry = Telemetry(CollectorRegistry())
    return ModelReplica(
        catalog, Fleet(catalog, settings, launcher, events=telemetry, cores=cores), telemetry, name=name
    )
