"""Models in environments of their own, over HTTP: how these are built, and how answers are compared.

An environment is built by `pipeserve env create` (minutes and a package index, once) in the folder that
PIPESERVE_TEST_CACHE names, else in .cache/environments-of-tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.environments.building import create, is_built_from, state_of
from app.environments.places import environments_folder, python_of
from app.tasks.registry import TASKS
from tests.server import REPOSITORY, RunningServer

CACHE = Path(os.environ.get("PIPESERVE_TEST_CACHE", REPOSITORY / ".cache" / "environments-of-tests"))
TOLERANCE = 2e-4
"""Of numbers in answers, as a share of the expected one where that is above 1: float32, added in another order."""

BUILD = """
import sys
from pathlib import Path
from tests import models, tiny
for name in sys.argv[2:]:
    (models if name in models.BUILDERS else tiny).build(name, Path(sys.argv[1]))
"""


def environment(name: str) -> Path:
    """Its interpreter. Built if it is not there."""
    if not (environments_folder(CACHE) / name).exists():
        done = subprocess.run(
            [REPOSITORY / ".venv" / "bin" / "python", "-m", "app", "env", "create", name, "--cache-dir", CACHE],
            cwd=REPOSITORY,
            check=False,
        )
        assert done.returncode == 0
    return python_of(environments_folder(CACHE) / name)


def client_environment(requirements: Path) -> Path:
    """The interpreter of one for these packages, without a worker's. Built if it is not there, or is for others."""
    name, folder = "clients", environments_folder(CACHE)
    state = state_of(folder / name)
    if state is None or not is_built_from(state, requirements):
        create(name, folder, requirements, (), python=sys.executable, say=lambda text: None)
    return python_of(folder / name)


def build_there(python: Path, folder: Path, names: Iterable[str]) -> None:
    """Tiny models, by the environment's transformers: 4.57 does not load every tokenizer that 5 saves."""
    run_there(python, "-P", "-c", BUILD, str(folder), *sorted(names))


def export_there(python: Path, model: Path, task: str, folder: str) -> None:
    """By Optimum's own command, into a folder of the model's."""
    run_there(
        python.with_name("optimum-cli"), "export", folder, "--task", task, "--model", str(model), f"{model}/{folder}"
    )


def run_there(*command: str | Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def entries_of(names: Iterable[tuple[str, str, str]], folder: Path, env: str) -> list[dict[str, Any]]:
    """Of each (key, task, model) two, both there: of transformers' own model, and of the environment's backend."""
    entries: list[dict[str, Any]] = []
    for key, task, name in names:
        entry = {"task": task, "model": str(folder / name), "keep_alive": 5}
        entries += [
            {**entry, "id": f"torch-{key}", "env": env, "dtype": "float32"},
            {**entry, "id": f"{env}-{key}", "backend": env},
        ]
    return entries


def answer(server: RunningServer, task: str, model: str, **parameters: Any) -> Any:
    body = {**TASKS[task].example.body, "model": model}
    body["parameters"] = {**body.get("parameters", {}), **parameters}
    with server.client(headers={"accept": "application/json"}) as client:
        done = client.post(f"/v1/{task}", json=body, timeout=900)
    assert done.status_code == 200, (done.text, "".join(server.log[-30:]))
    return done.json()


def difference(one: Any, other: Any) -> float:
    """The largest of numbers in the same places. Everything else is equal."""
    if isinstance(one, float | int) and not isinstance(one, bool):
        return float(abs(one - other)) / max(1.0, abs(one))
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list):
        assert len(one) == len(other)
        return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    assert one == other
    return 0.0
