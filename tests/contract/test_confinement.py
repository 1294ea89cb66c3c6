"""What the code of a model can do in a worker of a real server: read what it needs, and not much else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import write_catalog
from tests.fake_hub import TOKEN, FakeHub, serve
from tests.handlers import handler_folder
from tests.server import RunningServer
from tests.worker.test_confinement import landlock_version

CURIOUS = """
import os
import socket
from pathlib import Path


def tried(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"


class EndpointHandler:
    def __init__(self, path=""):
        self.port = int(Path(path, "port.txt").read_text())
        self.at_load = self.look()

    def __call__(self, data):
        return {"load": self.at_load, "call": self.look()}

    def look(self):
        return {
            "connection": tried(lambda: socket.create_connection(("127.0.0.1", self.port), 5).close()),
            "parent": tried(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
            "token": os.environ.get("HF_TOKEN"),
            "settings": sorted(name for name in os.environ if name.startswith("PIPESERVE_")),
        }
"""
SETTINGS = ["PIPESERVE_CACHE_DIR", "PIPESERVE_LOG_FORMAT", "PIPESERVE_LOG_LEVEL"]


@pytest.fixture(scope="module")
def server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("curious")
    curious = handler_folder(folder / "model", CURIOUS)
    entries: list[dict[str, Any]] = [
        {"id": "online", "model": str(curious), "trust_remote_code": True},
        {"id": "offline", "model": str(curious), "trust_remote_code": True, "offline": True},
        {"id": "gated", "model": "acme/gated", "task": "fill-mask"},
    ]
    catalog = write_catalog(folder / "models.yaml", models_dir, entries)
    hub = FakeHub({"acme/gated": models_dir / "masked-lm"}, gated=frozenset({"acme/gated"}))
    with socket.create_server(("127.0.0.1", 0)) as listener, serve(hub):
        (curious / "port.txt").write_text(str(listener.getsockname()[1]))
        variables = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "hub"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": TOKEN,
            "PIPESERVE_DRAIN": "5s",
        }
        with RunningServer(catalog, cache_dir=folder, variables=variables) as running:
            yield running


def seen_by(server: RunningServer, model: str) -> dict[str, dict[str, Any]]:
    answer = server.post(f"/models/{model}", {"inputs": "a"})
    assert answer.status_code == 200, answer.text
    seen: dict[str, dict[str, Any]] = answer.json()
    return seen


def test_an_offline_model_reaches_no_network(server: RunningServer) -> None:
    """Not while it is loaded and not after; nor is the Hub's token there."""
    seen = seen_by(server, "offline")
    for one in seen.values():
        assert one["connection"] == "PermissionError"
        assert one["token"] is None


def test_a_model_has_the_hubs_token_while_it_is_loaded(server: RunningServer) -> None:
    """Its files may be private; its answers need no token."""
    seen = seen_by(server, "online")
    assert (seen["load"]["token"], seen["call"]["token"]) == (TOKEN, None)
    assert seen["call"]["connection"] == "done"


def test_the_settings_of_the_server_stay_with_it(server: RunningServer) -> None:
    """Keys among them: workers have those that they read, and cannot look into the environment of the API process."""
    is_apart = landlock_version() >= 6 or os.geteuid() == 0
    for one in (one for model in ("online", "offline") for one in seen_by(server, model).values()):
        assert one["settings"] == SETTINGS
        assert one["parent"] == "PermissionError" or not is_apart


def test_a_gated_model_is_downloaded_with_the_token(server: RunningServer) -> None:
    """Which no environment of a process holds."""
    answer = server.post("/models/gated", {"inputs": "a [MASK] b"})
    assert answer.status_code == 200, answer.text
