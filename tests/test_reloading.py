"""models.yaml is read in one way, at the start and again; one reload at a time."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.catalog import Catalog, ModelSpec
from app.errors import CatalogError, Draining
from app.fleet.requests import Reloaded
from app.reloading import Reloader, Source
from app.settings import Settings
from app.telemetry import Telemetry
from tests.api.fake_fleet import CATALOG, FakeFleet
from tests.server import metric


def write(path: Path, entry: dict[str, Any], **top_level: Any) -> None:
    path.write_text(json.dumps({"models": [entry], **top_level}))


def test_environments_are_those_of_the_file_that_was_read_last(tmp_path: Path) -> None:
    """Also for who was given them at the start."""
    entry = {"id": "a", "task": "ner", "model": "acme/a", "env": "own"}
    path, python = tmp_path / "models.yaml", tmp_path / "python"
    write(path, entry)
    source = Source(path, tmp_path)
    assert 'no environment "own"' in str(source.read().models[0].problem)
    python.touch()
    write(path, entry, environments={"own": {"python": "./python"}})
    assert source.read().models[0].problem is None
    assert source.environments.python("own") == python
    path.write_text("models: [{taks: ner}]")
    with pytest.raises(CatalogError, match="taks"):
        source.read()
    assert source.environments.python("own") == python


class Reads:
    """What a file holds, read when the test lets it."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.catalogs: list[Catalog] = []
        self.num_running = self.most_running = 0

    def __call__(self) -> Catalog:
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        assert self.gate.wait(20)
        self.num_running -= 1
        return self.catalogs.pop(0)


def reloader(read: Reads) -> tuple[Reloader, FakeFleet, Telemetry]:
    fleet, telemetry = FakeFleet(), Telemetry(CollectorRegistry())
    return Reloader(read, CATALOG, fleet, telemetry, Settings()), fleet, telemetry


async def test_reloads_come_one_after_the_other() -> None:
    """Each reads the file, so that the last one's is what is served; who follows hears of each."""
    read = Reads()
    made, fleet, telemetry = reloader(read)
    heard: list[Catalog] = []
    made.follow(heard.append)
    catalogs = [Catalog(models=(ModelSpec(id=name, model="m"),)) for name in "abc"]
    read.catalogs = list(catalogs)
    calls = [asyncio.create_task(made.reload()) for _ in catalogs]
    await asyncio.sleep(0)
    read.gate.set()
    assert [(await call).added for call in calls] == [["a"], ["b"], ["c"]]
    assert (read.most_running, heard, list(fleet.specs)) == (1, catalogs, ["c"])
    assert metric(telemetry.render("")[0].decode(), "pipeserve_reloads_total", outcome="ok") == 3


async def test_a_server_that_drains_is_not_reloaded() -> None:
    """And no failed reload is counted for it."""
    read = Reads()
    read.gate.set()
    read.catalogs = [CATALOG]
    made, fleet, telemetry = reloader(read)

    def refuse(catalog: Catalog) -> Reloaded:
        raise Draining("The server is shutting down.")

    fleet.reload = refuse  # type: ignore[method-assign]
    with pytest.raises(Draining):
        await made.reload()
    assert metric(telemetry.render("")[0].decode(), "pipeserve_reloads_total") == 0
