"""Environments of their own, for tests that need the real ones.

An environment is built by `pipeserve env create` (minutes and a package index, once) in the folder that
PIPESERVE_TEST_CACHE names, else in .cache/environments-of-tests.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from app.environments.places import environments_folder, python_of
from tests.server import REPOSITORY

CACHE = Path(os.environ.get("PIPESERVE_TEST_CACHE", REPOSITORY / ".cache" / "environments-of-tests"))


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
