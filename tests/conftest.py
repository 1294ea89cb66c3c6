"""For all tests: no test reaches a Hub, whatever the shell that started them says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, so before any test module is


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds every model of `tests/models.py` under its name, such as `models_dir / "nli"`."""
    from tests.models import build_all  # torch, which most tests do without

    folder = tmp_path_factory.mktemp("models")
    build_all(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `tests.tiny.build` puts models for this run, each when it is first asked for."""
    return tmp_path_factory.mktemp("tiny")
