"""`backend: optimum` in its real environment: the same answers as transformers' own models there, over HTTP.

The environment is built by `pipeserve env create optimum` (minutes and a package index, once) in the folder that
PIPESERVE_TEST_CACHE names, else in .cache/environments-of-tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.declaration.backends import OPTIMUM
from app.environments.places import environments_folder, python_of
from app.tasks.registry import TASKS
from tests.cli.test_commands import pipeserve
from tests.server import REPOSITORY, RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CACHE = Path(os.environ.get("PIPESERVE_TEST_CACHE", REPOSITORY / ".cache" / "environments-of-tests"))
CASES = {
    "text-classification": "sequence-classification",
    "text-ranking": "cross-encoder",
    "token-classification": "token-classification",
    "fill-mask": "masked-lm",
    "zero-shot-classification": "nli",
    "question-answering": "question-answering",
    "feature-extraction": "encoder",
    "sentence-similarity": "sentence-encoder",
    "text-generation": "chatml",
    "text2text-generation": "bart",
    "summarization": "t5",
    "translation": "t5",
    "image-classification": "vit-classifier",
    "image-feature-extraction": "vit-encoder",
    "image-segmentation": "segformer",
    "image-to-text": "captioner",
    "audio-classification": "wav2vec2-classifier",
    "automatic-speech-recognition": "wav2vec2-ctc",
}
"""Of each task that the backend claims, a tiny model."""
OTHERS = {"whisper": "automatic-speech-recognition", "wav2vec2-masked-ctc": "automatic-speech-recognition"}
"""Models of another kind for the same task: one that writes, one whose padding is hidden by a mask."""
TOLERANCE = 2e-4
"""Of numbers in answers, as a share of the expected one where that is above 1: float32, added in another order."""

BUILD = """
import sys
from pathlib import Path
from tests import models, tiny
for name in sys.argv[2:]:
    (models if name in models.BUILDERS else tiny).build(name, Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """The environment's. Built if it is not there."""
    if not (environments_folder(CACHE) / "optimum").exists():
        done = subprocess.run(
            [REPOSITORY / ".venv" / "bin" / "python", "-m", "app", "env", "create", "optimum", "--cache-dir", CACHE],
            cwd=REPOSITORY,
            check=False,
        )
        assert done.returncode == 0
    return python_of(environments_folder(CACHE) / "optimum")


@pytest.fixture(scope="module")
def built(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the environment's transformers: 4.57 does not load every tokenizer that 5 saves."""
    folder = tmp_path_factory.mktemp("built")
    command = [str(python), "-P", "-c", BUILD, str(folder), *sorted({*CASES.values(), *OTHERS})]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    exported = folder / "exported"
    shutil.copytree(folder / "sequence-classification", exported)
    command = [str(python.with_name("optimum-cli")), "export", "onnx", "--task", "text-classification"]
    command += ["--model", str(exported), str(exported / "onnx")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Each model twice in the environment, with and without Optimum, and three times more as other options make it."""
    entries: list[dict[str, Any]] = []
    for task, name in [*CASES.items(), *((task, name) for name, task in OTHERS.items())]:
        key = name if name in OTHERS else task
        entry = {"task": task, "model": str(built / name), "keep_alive": 5}
        entries += [
            {**entry, "id": f"torch-{key}", "env": "optimum", "dtype": "float32"},
            {**entry, "id": f"optimum-{key}", "backend": "optimum"},
        ]
    changed = {"task": "text-classification", "model": str(built / "sequence-classification"), "backend": "optimum"}
    entries += [{**changed, "id": "fused", "optimization": "O2"}, {**changed, "id": "int8", "quantization": "int8"}]
    entries.append({**changed, "id": "exported", "model": str(built / "exported")})
    entries.append(
        {"id": "fused-qwen", "task": "text-generation", "model": str(built / "chatml"), "backend": "optimum"}
        | {"optimization": "O2"}
    )
    catalog = tmp_path_factory.mktemp("server") / "models.yaml"
    catalog.write_text(json.dumps({"models": entries}))
    with RunningServer(catalog, "--load-wait", "10m", cache_dir=CACHE) as running:
        yield running


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


def by_label(answers: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    return [sorted(rows, key=lambda row: str(row["label"])) for rows in answers]


def test_every_task_that_the_backend_claims_is_tried() -> None:
    """The table above and the backend's row."""
    assert frozenset(CASES) == OPTIMUM.tasks


def test_the_environment_is_checked(python: Path) -> None:
    """`env check` imports there what a worker of it imports."""
    done = pipeserve("env", "check", "optimum", "--cache-dir", str(CACHE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "optimum-onnx 0.1.0" in done.stdout and "transformers 4.57" in done.stdout


@pytest.mark.parametrize("task", CASES)
def test_an_export_answers_as_the_model(server: RunningServer, task: str) -> None:
    """The documents' request, to the model in transformers and in Optimum, both in the environment."""
    expected, found = answer(server, task, f"torch-{task}"), answer(server, task, f"optimum-{task}")
    assert difference(expected, found) <= TOLERANCE


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_of_a_task_answer_alike(server: RunningServer, name: str) -> None:
    """Speech with keys and values, and speech whose mask the export does not take."""
    expected, found = (answer(server, OTHERS[name], f"{backend}-{name}") for backend in ("torch", "optimum"))
    assert difference(expected, found) <= TOLERANCE


@pytest.mark.parametrize("model", ["fused", "int8"])
def test_changed_exports_answer_alike(server: RunningServer, model: str) -> None:
    """What is fused computes the same; int8 is near, and is no copy."""
    task = "text-classification"
    expected, found = (by_label(answer(server, task, name, top_k=3)) for name in (f"torch-{task}", model))
    assert difference(expected, found) <= {"fused": TOLERANCE, "int8": 0.1}[model]
    assert model == "fused" or found != expected


def test_what_optimums_command_exported_is_used(server: RunningServer) -> None:
    """`optimum-cli export onnx` into the model's folder: nothing is exported again."""
    task = "text-classification"
    expected, found = answer(server, task, f"torch-{task}"), answer(server, task, "exported")
    assert difference(expected, found) <= TOLERANCE
    assert not list((CACHE / "made" / "optimum").glob("exported-*"))


def test_texts_stream_from_an_export(server: RunningServer) -> None:
    """Keys and values are kept between tokens; each is sent as it comes."""
    body = {"model": "optimum-text-generation", "stream": True, "max_tokens": 8, "temperature": 0}
    body["messages"] = [{"role": "user", "content": "where is paris"}]
    with server.client() as client, client.stream("POST", "/v1/chat/completions", json=body, timeout=900) as response:
        chunks = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    whole = server.post("/v1/chat/completions", {**body, "stream": False}).json()
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
    assert len(pieces) > 2
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]


def test_what_optimum_cannot_optimize_is_told(server: RunningServer) -> None:
    """As the reason why the model does not load."""
    with server.client() as client:
        body = {"model": "fused-qwen", "inputs": "a"}
        done = client.post("/v1/text-generation", json=body, timeout=900)
    assert done.status_code in (501, 503)
    assert "optimization: O2: Optimum cannot optimize this model" in done.text
