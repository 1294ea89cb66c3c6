"""`backend: optimum-intel` in its real environment: the same answers as transformers' own models there, over HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.declaration.backends import OPENVINO, OPTIMUM_INTEL
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
from tests.server import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CASES = {
    "text-generation": "chatml",
    "text2text-generation": "bart",
    "summarization": "t5",
    "translation": "t5",
    "automatic-speech-recognition": "whisper",
}
"""Of each task that the backend claims, a tiny model."""
LISTENER = "wav2vec2-ctc"
"""Speech by a model of another kind, which answers in one forward."""


@pytest.fixture(scope="module")
def python() -> Path:
    return environment("optimum-intel")


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Each model twice in the environment, with and without OpenVINO, and one that optimum-intel's command exported."""
    folder = tmp_path_factory.mktemp("built")
    build_there(python, folder, {*CASES.values(), LISTENER})
    exported = Path(shutil.copytree(folder / "bart", folder / "exported"))
    export_there(python, exported, "text2text-generation-with-past", "openvino")
    names = [(task, task, name) for task, name in CASES.items()]
    entries = entries_of([*names, (LISTENER, "automatic-speech-recognition", LISTENER)], folder, "optimum-intel")
    entries.append(
        {"id": "exported", "task": "text2text-generation", "model": str(exported), "backend": "optimum-intel"}
    )
    catalog = tmp_path_factory.mktemp("server") / "models.yaml"
    catalog.write_text(json.dumps({"models": entries}))
    with RunningServer(catalog, "--load-wait", "10m", cache_dir=CACHE) as running:
        yield running


def test_every_task_that_the_backend_claims_is_tried() -> None:
    """And none that needs no environment, speech aside: models that write it do, others are tried beside them."""
    assert OPTIMUM_INTEL.tasks == frozenset(CASES)
    assert OPENVINO.tasks is not None
    assert OPTIMUM_INTEL.tasks & OPENVINO.tasks <= {"automatic-speech-recognition"}


def test_the_environment_is_checked(python: Path) -> None:
    """`env check` imports there what a worker of it imports."""
    done = pipeserve("env", "check", "optimum-intel", "--cache-dir", str(CACHE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "optimum-intel 1.27.0" in done.stdout and "openvino 2025.4" in done.stdout


@pytest.mark.parametrize("key", [*CASES, LISTENER])
def test_an_export_answers_as_the_model(server: RunningServer, key: str) -> None:
    """The documents' request, to the model in transformers and on OpenVINO; the card says how far its numbers are."""
    task = key if key in CASES else "automatic-speech-recognition"
    expected, found = (answer(server, task, f"{one}-{key}") for one in ("torch", "optimum-intel"))
    assert difference(expected, found) <= TOLERANCE
    card = server.get(f"/v1/models/optimum-intel-{key}").json()
    assert card["dtype"] == "float32"
    assert 0 < card["largest_difference"] <= TOLERANCES["float32"]


def test_longer_texts_are_written_alike(server: RunningServer) -> None:
    """Thirty tokens after each other, of two texts at once and by beams: keys and values are each text's own."""
    for parameters in ({"num_beams": 1}, {"num_beams": 3}):
        given = {"max_new_tokens": 30, "do_sample": False, **parameters}
        body = {"inputs": ["where is paris", "the film was a long and good one"], "parameters": given}
        answers = [
            server.post("/v1/text2text-generation", {**body, "model": f"{one}-text2text-generation"}).json()
            for one in ("torch", "optimum-intel")
        ]
        assert len(answers[0]) == 2 and answers[0] == answers[1]


def test_texts_stream_from_an_export(server: RunningServer) -> None:
    """Keys and values are kept between tokens; each is sent as it comes."""
    body = {"model": "optimum-intel-text-generation", "stream": True, "max_tokens": 8, "temperature": 0}
    body["messages"] = [{"role": "user", "content": "where is paris"}]
    with server.client() as client, client.stream("POST", "/v1/chat/completions", json=body, timeout=900) as response:
        chunks = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
    whole = [
        server.post("/v1/chat/completions", {**body, "model": f"{one}-text-generation", "stream": False}).json()
        for one in ("torch", "optimum-intel")
    ]
    assert len(pieces) > 2
    assert ["".join(pieces)] * 2 == [one["choices"][0]["message"]["content"] for one in whole]


def test_what_its_command_exported_is_used(server: RunningServer) -> None:
    """`optimum-cli export openvino` into the model's folder: nothing is exported again."""
    task = "text2text-generation"
    expected, found = answer(server, task, f"torch-{task}"), answer(server, task, "exported")
    assert difference(expected, found) <= TOLERANCE
    assert not list((CACHE / "made" / "optimum-intel").glob("exported-*/*.xml"))
    assert 0 < server.get("/v1/models/exported").json()["largest_difference"] <= TOLERANCES["float32"]
