"""`backend: optimum` in its real environment: the same answers as transformers' own models there, over HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from app.declaration.backends import OPTIMUM
from app.runtime.backends.exporting import TOLERANCES
from tests.cli.test_commands import pipeserve
from tests.contract.environments import (
    CACHE,
    TOLERANCE,
    answer,
    build_there,
    difference,
    entries_of,
    environment,
    export_there,
)
from tests.fake_hub import FakeHub, serve
from tests.server import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

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


@pytest.fixture(scope="module")
def python() -> Path:
    return environment("optimum")


@pytest.fixture(scope="module")
def built(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models, and three with files of Optimum's: of one the weights have changed since."""
    folder = tmp_path_factory.mktemp("built")
    build_there(python, folder, {*CASES.values(), *OTHERS})
    for name, model, task in (
        ("exported", "sequence-classification", "text-classification"),
        ("translator", "t5", "text2text-generation-with-past"),
    ):
        shutil.copytree(folder / model, folder / name)
        export_there(python, folder / name, task, "onnx")
    shutil.copytree(folder / "exported", folder / "stale")
    weights = load_file(folder / "stale" / "model.safetensors")
    save_file({name: 2 * value for name, value in weights.items()}, folder / "stale" / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Each model twice in the environment, with and without Optimum, and five times more as other options make it."""
    names = [(task, task, name) for task, name in CASES.items()] + [(name, task, name) for name, task in OTHERS.items()]
    entries = entries_of(names, built, "optimum")
    changed = {"task": "text-classification", "model": str(built / "sequence-classification"), "backend": "optimum"}
    entries += [{**changed, "id": "fused", "optimization": "O2"}, {**changed, "id": "int8", "quantization": "int8"}]
    entries += [{**changed, "id": name, "model": str(built / name)} for name in ("exported", "stale")]
    entries.append(
        {"id": "fused-qwen", "task": "text-generation", "model": str(built / "chatml"), "backend": "optimum"}
        | {"optimization": "O2"}
    )
    catalog = tmp_path_factory.mktemp("server") / "models.yaml"
    catalog.write_text(json.dumps({"models": entries}))
    with RunningServer(catalog, "--load-wait", "10m", cache_dir=CACHE) as running:
        yield running


def card(server: RunningServer, model: str) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/v1/models/{model}").json()
    return found


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
    """`optimum-cli export onnx` into the model's folder: nothing is exported again, and it is compared with the
    weights beside it."""
    task = "text-classification"
    expected, found = answer(server, task, f"torch-{task}"), answer(server, task, "exported")
    assert difference(expected, found) <= TOLERANCE
    assert not list((CACHE / "made" / "optimum").glob("exported-*/*.onnx"))
    assert 0 < card(server, "exported")["largest_difference"] <= TOLERANCES["float32"]


def test_card_says_what_computes_and_how_far_it_is_off(server: RunningServer) -> None:
    """As of the exports of other backends."""
    answer(server, "text-classification", "int8")
    answer(server, "text-generation", "optimum-text-generation")
    int8, exact = card(server, "int8"), card(server, "optimum-text-generation")
    assert (int8["dtype"], exact["dtype"]) == ("int8", "float32")
    assert TOLERANCES["float32"] < int8["largest_difference"] <= TOLERANCES["int8"]
    assert 0 < exact["largest_difference"] <= TOLERANCES["float32"]


def test_export_of_other_weights_is_refused(server: RunningServer) -> None:
    """The ones beside it answer otherwise."""
    done = server.post("/v1/text-classification", {"model": "stale", "inputs": "a"}, timeout=900)
    assert done.status_code == 503
    assert "The export computes something else than the model" in done.text


def test_exports_of_a_hub_are_used(built: Path, tmp_path: Path) -> None:
    """In place of the weights, which are not downloaded; without them there is nothing to compare with."""
    repositories = {"acme/exported": built / "exported", "acme/translator": built / "translator"}
    entries = [
        {"id": "exported", "task": "text-classification", "model": "acme/exported", "backend": "optimum"},
        {"id": "translator", "task": "translation", "model": "acme/translator", "backend": "optimum"},
        {"id": "torch", "task": "translation", "model": str(built / "translator"), "env": "optimum"},
    ]
    catalog = tmp_path / "models.yaml"
    catalog.write_text(json.dumps({"models": entries}))
    with serve(FakeHub(repositories)) as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        with RunningServer(catalog, "--load-wait", "10m", cache_dir=CACHE, variables=variables) as server:
            answer(server, "text-classification", "exported")
            expected, found = (answer(server, "translation", model) for model in ("torch", "translator"))
            cards = [card(server, model) for model in ("exported", "translator")]
        downloaded = hub.downloaded()
    assert difference(expected, found) <= TOLERANCE
    assert [(one["dtype"], one["largest_difference"]) for one in cards] == [("float32", None)] * 2
    assert {"onnx/model.onnx", "onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"} <= set(downloaded)
    assert not {"model.safetensors", "onnx/decoder_model.onnx"} & set(downloaded)


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
