"""A replica whose workers compute by script: no torch, which takes a busy machine a minute for each. Imports ray."""

from __future__ import annotations

from app.fleet.launcher import SpawnLauncher
from app.fleet.processes import Launcher
from app.ray.application import Model
from app.settings import Settings


class ScriptedModel(Model):
    def make_launcher(self, settings: Settings) -> Launcher:
        return SpawnLauncher(worker="tests.fake_worker", log_level=settings.log_level, cache_dir=settings.cache_dir)
