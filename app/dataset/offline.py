"""A model that is served to this process alone: the server's own fleet, workers and batcher, without HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from app.catalog import Catalog, ModelSpec
from app.channel.messages import BatchDone, Progress
from app.dataset.asking import Computed
from app.environments.places import Environments, with_environments
from app.errors import ModelFailed
from app.fleet.events import NullEvents
from app.fleet.fleet import Fleet
from app.fleet.launcher import EnvironmentsLauncher, make_launcher
from app.fleet.requests import FleetAPI, JobRequest, ModelStatus
from app.media.remote import MediaFetcher
from app.settings import Settings
from app.tasks.base import Task
from app.tasks.media import remote_places, with_files
from app.tasks.requests import RequestParser
from app.tasks.text_generation import ADAPTER_ID
from app.tuning.choices import FILE, Choices, decider

_NO_DEADLINE_S = 365 * 86400.0  # nobody waits for one answer


class _Forwards(NullEvents):
    def __init__(self, computed: Computed) -> None:
        self._computed = computed

    def batch_done(self, model: str, batch: BatchDone) -> None:
        self._computed.num_items += batch.num_items
        self._computed.forward_s += batch.forward_s


class OfflineModel:
    """Implements `Model` for the one entry of a fleet."""

    def __init__(
        self,
        fleet: FleetAPI,
        spec: ModelSpec,
        task: Task,
        parameters: dict[str, Any],
        computed: Computed,
        fetcher: MediaFetcher,
    ) -> None:
        self.computed = computed
        self._fleet = fleet
        self._spec = spec
        self._task = task
        self._parameters = parameters
        self._parser = RequestParser(task)
        self._fetcher = fetcher

    async def ask(self, inputs: list[Any]) -> list[bytes]:
        body = inputs[0] if len(inputs) == 1 and self._task.is_single(inputs, self._parameters) else inputs
        parsed = self._parser.parse({"inputs": body, "parameters": self._parameters}, defaults=self._spec.parameters)
        adapter_id = parsed.parameters.pop(ADAPTER_ID, None)
        result = await self._fleet.submit(
            JobRequest(
                model_id=self._spec.id,
                task=self._task.name,
                inputs=await self._with_files(parsed.inputs),
                parameters=parsed.parameters,
                num_items=parsed.num_items,
                adapter=self._spec.chosen_adapter(adapter_id),
            )
        )
        return result.outputs

    async def _with_files(self, inputs: list[Any]) -> list[Any]:
        places = remote_places(inputs)
        files = {remote.url: await self._fetcher.fetch(remote.url, param=place) for place, remote in places}
        return [with_files(one, files) for one in inputs] if files else inputs

    async def memory_bytes(self) -> int | None:
        return self._fleet.status(self._spec.id).memory_bytes


@asynccontextmanager
async def offline(
    spec: ModelSpec,
    task: Task,
    parameters: dict[str, Any],
    *,
    catalog: Catalog,
    environments: Environments,
    settings: Settings,
    tell: Callable[[str], None] = lambda phase: None,
) -> AsyncIterator[OfflineModel]:
    """Loaded; its processes are gone when the block is left. catalog: whose limits hold. tell: how far the load is.
    Raises ModelFailed."""
    spec = decider(Choices(settings.cache_dir / FILE), environments)(spec)
    queue = msgspec.structs.replace(spec.queue, deadline_s=_NO_DEADLINE_S, max_wait_s=None)
    spec = msgspec.structs.replace(spec, queue=queue)
    served = msgspec.structs.replace(spec, adapter=None)  # each request says which it is for
    alone = with_environments(msgspec.structs.replace(catalog, models=(served,)), environments)
    launcher = EnvironmentsLauncher(
        make_launcher(settings), environments, log_level=settings.log_level, cache_dir=settings.cache_dir
    )
    computed = Computed()
    fleet = Fleet(alone, settings, launcher, events=_Forwards(computed))
    try:
        await fleet.start()
        await _load(fleet, spec.id, tell)
        computed.num_items, computed.forward_s = 0, 0.0
        yield OfflineModel(fleet, spec, task, parameters, computed, MediaFetcher(catalog.media))
    finally:
        await fleet.stop()


async def _load(fleet: FleetAPI, model_id: str, tell: Callable[[str], None]) -> None:
    async for progress in fleet.load(model_id):
        match progress:
            case Progress(phase=phase, done=done, total=total):
                tell(f"{phase} {100 * done // total} %" if total else phase)
            case ModelStatus(state="failed", reason=reason):
                raise ModelFailed(f'"{model_id}" cannot start: {reason}')
