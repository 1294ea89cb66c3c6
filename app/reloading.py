"""models.yaml as it is served: read in one way at the start and at every reload, which changes what there is to change
and loses no request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from app.catalog import Catalog, read_catalog
from app.environments.places import Environments, environments_folder, with_environments
from app.errors import CatalogError
from app.fleet.requests import FleetAPI, Reloaded
from app.notify import Notifier
from app.settings import Settings
from app.telemetry import Telemetry
from app.tuning.choices import FILE, Choices, decider

logger = logging.getLogger(__name__)


class Source:
    """A file, with what this machine has for its entries: environments, and choices of `pipeserve tune`."""

    def __init__(self, path: Path, cache_dir: Path) -> None:
        self._path = path
        self.environments = Environments(environments_folder(cache_dir), {})
        self.decide = decider(Choices(cache_dir / FILE), self.environments)

    def read(self) -> Catalog:
        """Blocks. Raises CatalogError, and then nothing is different."""
        catalog = read_catalog(self._path)
        self.environments.declare(catalog.environments)
        catalog = with_environments(catalog, self.environments)
        return msgspec.structs.replace(catalog, models=tuple(self.decide(spec) for spec in catalog.models))


class Reloader:
    """Owned by the event loop. One reload at a time: what asks for another meanwhile gets one of its own, after it."""

    def __init__(
        self,
        read: Callable[[], Catalog],
        started_with: Catalog,
        fleet: FleetAPI,
        telemetry: Telemetry,
        settings: Settings,
        notifier: Notifier | None = None,
    ) -> None:
        """settings: what counts where the file says nothing."""
        self._read = read
        self._max_inputs = started_with.queue_items(settings.max_queue_items)
        self._fleet = fleet
        self._telemetry = telemetry
        self._settings = settings
        self._notifier = notifier if notifier is not None else Notifier()
        self._followers: list[Callable[[Catalog], None]] = []
        self._turn = asyncio.Lock()
        telemetry.configured("ok", time.time())

    def follow(self, tell: Callable[[Catalog], None]) -> None:
        """Whoever made something of the catalogue is told when another is served."""
        self._followers.append(tell)

    async def reload(self) -> Reloaded:
        """Raises CatalogError: then nothing is changed, and it says why. Raises Draining."""
        async with self._turn:
            self._notifier.reloading()
            problem = ""
            try:
                catalog = await asyncio.to_thread(self._read)
                reloaded = self._apply(catalog)
            except CatalogError as error:
                problem = str(error)
                self._telemetry.reloaded("failed", time.time())
                logger.error("models.yaml is not reloaded, nothing is changed: %s", error)
                raise
            finally:
                if self._fleet.is_accepting:
                    self._notifier.reloaded(problem)
            self._telemetry.reloaded("ok", time.time())
            self._tell(reloaded)
            return reloaded

    def _apply(self, catalog: Catalog) -> Reloaded:
        reloaded = self._fleet.reload(catalog)
        for tell in self._followers:
            tell(catalog)
        return msgspec.structs.replace(reloaded, restart_needed=self._restart_needed(catalog))

    def _restart_needed(self, catalog: Catalog) -> list[str]:
        """For what the HTTP layer was made with."""
        if catalog.queue_items(self._settings.max_queue_items) <= self._max_inputs:
            return []
        return [
            "queue.max_items: so many items are admitted from now on, but until a restart no single request may have"
            f" more than {self._max_inputs}."
        ]

    def _tell(self, reloaded: Reloaded) -> None:
        logger.info(
            "models.yaml is reloaded: %d added, %d changed, %d removed, %d unchanged",
            len(reloaded.added),
            len(reloaded.changed),
            len(reloaded.removed),
            reloaded.num_unchanged,
        )
        for model_id, problem in reloaded.problems.items():
            logger.warning("%s cannot be served: %s", model_id, problem)
        for sentence in reloaded.restart_needed:
            logger.warning("%s", sentence)
