"""The compose files: what every service of them is denied, and that both generations of compose read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from app.api.server import LAST_WRITES_S
from app.durations import parse_duration
from tests.deploy.tools import REPOSITORY, read

FILE, GPU = REPOSITORY / "docker-compose.yml", REPOSITORY / "docker-compose.gpu.yml"
OURS = ("pipeserve", "prometheus", "grafana")
"""Those that are confined as far as can be; Open WebUI's image is not made for it."""


def services() -> dict[str, Any]:
    found: dict[str, Any] = read(FILE)["services"]
    return found


@pytest.mark.parametrize("name", OURS)
def test_service_is_confined(name: str) -> None:
    """No root, no capabilities, nothing to write but volumes and /tmp, no way up."""
    service = services()[name]
    assert service["user"].split(":")[0] not in ("0", "root", "")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged") and not service.get("cap_add")


def test_images_are_pinned() -> None:
    """By a tag that says a version."""
    for name, service in services().items():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_nobody_outside_this_machine_reaches_it_unasked() -> None:
    """Ports are published on 127.0.0.1 unless a variable says otherwise."""
    for name, service in services().items():
        for port in service["ports"]:
            assert port.startswith(("127.0.0.1:", "${PIPESERVE_BIND:-127.0.0.1}:")), name


def test_server_has_the_time_to_drain() -> None:
    """The drain and the last writes fit into the time that Docker waits before it kills."""
    server = services()["pipeserve"]
    drain_s = parse_duration(server["environment"]["PIPESERVE_DRAIN"])
    assert parse_duration(server["stop_grace_period"]) >= drain_s + LAST_WRITES_S + 5


def test_no_health_check_needs_curl() -> None:
    """What an image has of its own: Python, promtool."""
    checks = [service["healthcheck"]["test"] for service in services().values() if "healthcheck" in service]
    assert checks
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    assert "HEALTHCHECK" in dockerfile and "curl" not in dockerfile and "curl" not in json.dumps(checks)


def test_named_volumes_are_where_the_image_has_folders_of_its_user() -> None:
    """Docker gives a new volume the owner of the folder that it is mounted over."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    uid = services()["pipeserve"]["user"]
    assert f"USER {uid}" in dockerfile and f"chown -R {uid} /models /cache" in dockerfile
    named = [volume.split(":")[1] for volume in services()["pipeserve"]["volumes"] if not volume.startswith(".")]
    assert named and all(folder in dockerfile for folder in named)


def compose_commands() -> list[list[str]]:
    """`docker-compose` of the first generation, and compose 2 where it is a plugin of docker."""
    found = [["docker-compose"]] if shutil.which("docker-compose") else []
    if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        found.append(["docker", "compose"])
    return found


@pytest.mark.parametrize("files", [[FILE], [FILE, GPU]], ids=["cpu", "gpu"])
def test_compose_reads_them(files: list[Any]) -> None:
    """Each compose that is here says what it made of them; with the second file it is the CUDA image on all GPUs."""
    commands = compose_commands()
    if not commands:
        pytest.skip("neither docker-compose nor docker compose is here")
    chosen = [argument for file in files for argument in ("--file", str(file))]
    for command in commands:
        done = subprocess.run([*command, *chosen, "config"], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        server = yaml.safe_load(done.stdout)["services"]["pipeserve"]
        target = "cuda" if GPU in files else "cpu"
        assert server["build"]["target"] == target and server["image"] == f"pipeserve:{target}"
        assert ("deploy" in server) == (GPU in files)
