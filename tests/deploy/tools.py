"""The operators' own tools, which `scripts/deploy-tools` fetches: a test that needs one that is not here is skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DEPLOY = REPOSITORY / "deploy"
FETCHED = REPOSITORY / ".cache" / "tools" / "deploy" / "bin"


def tool(name: str) -> str:
    """Where it is. Its own Python has packages that no other one has."""
    fetched = FETCHED / name
    found = str(fetched) if fetched.exists() else None if name == "python" else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: scripts/deploy-tools fetches what package registries have")
    return found


def run(name: str, *arguments: str | Path, given: str = "", folder: Path = REPOSITORY) -> str:
    """What it prints; fails the test where the tool says that something is wrong."""
    done = subprocess.run(
        [tool(name), *map(str, arguments)], cwd=folder, input=given, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def complaint(name: str, *arguments: str | Path) -> str:
    """What it prints when it refuses."""
    done = subprocess.run(
        [tool(name), *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


def unknown_to_their_owners(*documents: Any) -> str:
    """Fields of Kubernetes' custom resources, and of dashboards, that the models of those who own them lack: a line for
    each."""
    script = Path(__file__).with_name("schemas.py")
    return run("python", script, given=yaml.safe_dump_all(documents))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())
