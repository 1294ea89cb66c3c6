"""The real npm package `@huggingface/inference` against the running server: its shapes differ from Python's client."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.tasks.curl import FILES
from tests.contract.clients import METHODS
from tests.server import REPOSITORY, RunningServer

SOURCE = Path(__file__).parent / "javascript"
INSTALLED = REPOSITORY / ".cache" / "javascript"
TASKS = [task for task in METHODS if task != "text-generation"]
"""Its text generation speaks OpenAI's /v1/completions, which this version does not serve."""

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js and npm")


@pytest.fixture(scope="module")
def program() -> Path:
    """The script beside its installed package; installed once."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "ask.mjs"):
        shutil.copy(SOURCE / name, INSTALLED / name)
    if not (INSTALLED / "node_modules" / "@huggingface" / "inference").is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(command, cwd=INSTALLED, capture_output=True, text=True, timeout=60, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"the package cannot be installed here: {str(error.stderr)[:200]}")
    return INSTALLED / "ask.mjs"


@pytest.fixture(scope="module")
def answers(server: RunningServer, program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("files")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    command = ["node", str(program), server.url, str(folder), *TASKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert set(lines[-1]["known"]) == set(TASKS), "every method that is tried in Python is tried here"
    return {line["task"]: line for line in lines[:-1]}


@pytest.mark.parametrize("task", TASKS)
def test_method_of_the_javascript_client_parses_the_answer(answers: dict[str, Any], task: str) -> None:
    """The client checks the shape itself, and raises for another."""
    assert "error" not in answers[task], answers[task]["error"]
    assert answers[task]["answer"] is not None
