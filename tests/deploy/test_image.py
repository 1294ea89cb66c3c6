"""The Dockerfile and what it is built with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tests import fake_hub
from tests.deploy.tools import DEPLOY, REPOSITORY, run

DOCKERFILE = REPOSITORY / "Dockerfile"
IMAGE = DEPLOY / "image"


def test_hadolint_has_nothing_to_say() -> None:
    """The linter of Dockerfiles, at its strictest."""
    assert run("hadolint", "--no-color", DOCKERFILE) == ""


def test_locked_packages_satisfy_what_is_required() -> None:
    """Write them anew with scripts/lock-image."""
    lines = (IMAGE / "locked.txt").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = re.search(r'"\.\[([\w,]+)\]"', (REPOSITORY / "scripts" / "lock-image").read_text())
    assert extras is not None
    wanted = [
        *project["dependencies"],
        *(line for name in extras[1].split(",") for line in project["optional-dependencies"][name]),
    ]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(locked[requirement.name.lower().replace("_", "-")]), str(requirement)
    pins = (REPOSITORY / "constraints.txt").read_text()
    for name in ("torch", "transformers"):
        assert f"{name}=={locked[name]}\n" in pins


def test_models_are_baked_as_the_hub_has_them(tmp_path: Path) -> None:
    """By commit or by their newest one, into the cache that the server reads offline; weights of other frameworks stay
    where they are."""
    repository = tmp_path / "repository"
    repository.mkdir()
    for name in ("config.json", "model.safetensors", "tf_model.h5"):
        (repository / name).write_text("{}")
    with fake_hub.serve(fake_hub.FakeHub({"acme/words": repository})) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, str(IMAGE / "bake.py"), f"acme/words@{fake_hub.COMMIT}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    snapshot = tmp_path / "hub" / "hub" / "models--acme--words" / "snapshots" / fake_hub.COMMIT
    assert f"baked acme/words at {snapshot}" in done.stdout
    assert (snapshot / "model.safetensors").exists() and not (snapshot / "tf_model.h5").exists()
