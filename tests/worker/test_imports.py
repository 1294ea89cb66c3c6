"""Which libraries the packages of the two kinds of process pull in."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import importlib, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
found = [name for name in sys.argv[2].split(",") if name in sys.modules]
sys.exit(f"imported {found}" if found else 0)
"""


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("app.channel.connection,app.channel.forks,app.fleet.launcher", "torch,transformers,numpy,app.worker"),
        ("app.worker.__main__,app.worker.forkserver", "torch,transformers,fastapi,starlette,uvicorn"),
    ],
)
def test_a_package_imports_no_more_than_its_process_has(modules: str, forbidden: str) -> None:
    """The API process stays small; a worker needs no HTTP library, and imports torch after its first heartbeat."""
    subprocess.run([sys.executable, "-c", CODE, modules, forbidden], check=True)
