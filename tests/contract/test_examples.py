"""The programs of examples/, as they stand in docs/clients.md, with the packages that they are for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import StartServer
from tests.contract.environments import client_environment
from tests.server import REPOSITORY, RunningServer

EXAMPLES = REPOSITORY / "examples"
JAVASCRIPT = REPOSITORY / ".cache" / "javascript-examples"
WHO = "I am the demo's chat model"
JOKE = "It wanted to be part of a batch."
TIME = "Here you are: that is what the tool says."
BATCHING = "computed together in one batch. That is faster"
LOADING = "A model is loaded at its first request, into a process of its own."

PYTHON = {
    "hugging_face.py": [
        "review: NEGATIVE",
        "name: hamburg is LOC",
        "answer: Alexander Graham Bell",
        "picture: star",
        "embeddings: (2, 384) float32",
        JOKE,
    ],
    "openai_chat.py": [
        "served: all-MiniLM-L6-v2 reviews",
        WHO,
        " tokens",
        "parsed: mood=",
        "called: get_time {}",
        f"told: {TIME}",
        "response: Why did the request",
    ],
    "openai_embeddings.py": ["cat? -> A kitten", "cost? -> The central bank", "game? -> The match"],
    "openai_batch.py": ["completed:", "review 0 NEGATIVE", "review 1 POSITIVE"],
    "anthropic_messages.py": [
        "tokens: 19",
        WHO,
        "end_turn",
        "called: get_time {}",
        f"told: {TIME}",
        "parsed: mood=",
    ],
}
"""What each prints on the demo's models, in this order, whatever else."""
SOUNDS = {"openai_audio.py": ["spoken: ", "heard: ", " s: "]}
"""On models that have learned nothing: the demo has none for sounds."""
FRAMEWORKS = {
    "langchain_chat.py": [WHO, "Hello!", JOKE, "structured: mood=", "ai: ['get_time']", "tool: 17:45", f"ai: {TIME}"],
    "langchain_rag.py": ["found: Requests", BATCHING, "found: A model is loaded", LOADING],
    "llama_index_chat.py": [WHO, "structured: mood=", "called: get_time 17:45", f"agent: {TIME}"],
    "llama_index_rag.py": ["found: Requests", BATCHING, "found: A model is loaded", LOADING],
}
"""These need packages that `make install` leaves out."""
NODE = {
    "hugging_face.mjs": ["review: NEGATIVE", "hamburg", "picture: star", "embedding: 384", JOKE],
    "openai.mjs": [WHO, f"told: {TIME}", "embeddings: 2 of 384 numbers"],
}

RUN_ALL = """
import contextlib, io, json, runpy, sys, traceback
for path in sys.argv[1:]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(path, run_name="__main__")
        except Exception:
            traceback.print_exc(file=printed)
    print(json.dumps(printed.getvalue()), flush=True)
"""
"""In one process, because most of their time goes into importing the same packages."""

pytestmark = pytest.mark.timeout(600)  # for the demo's training, where nobody did it yet


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server of the demo's models."""
    subprocess.run([sys.executable, "-m", "demo.build_models"], cwd=REPOSITORY, check=True)
    folder = tmp_path_factory.mktemp("examples")
    with RunningServer(REPOSITORY / "demo" / "models.yaml", cache_dir=folder) as running:
        yield running.url


def run(command: Sequence[str | Path], url: str) -> str:
    """Where users run them: beside the demo's picture. They are told of nothing but the server."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**variables, "PIPESERVE_URL": url},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_all(python: Path, names: dict[str, Any], url: str) -> dict[str, str]:
    lines = run([python, "-c", RUN_ALL, *(EXAMPLES / name for name in names)], url).splitlines()
    return dict(zip(names, map(json.loads, lines), strict=True))


@pytest.fixture(scope="module")
def printed(url: str) -> dict[str, str]:
    return run_all(Path(sys.executable), PYTHON, url)


@pytest.fixture(scope="module")
def printed_by_frameworks(url: str) -> dict[str, str]:
    return run_all(client_environment(EXAMPLES / "requirements.txt"), FRAMEWORKS, url)


@pytest.fixture(scope="module")
def javascript() -> Path:
    """The programs beside their packages, which are installed once for each package.json."""
    if shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    JAVASCRIPT.mkdir(parents=True, exist_ok=True)
    wanted = (EXAMPLES / "package.json").read_text()
    installed = JAVASCRIPT / "installed.json"
    for name in ("package.json", *NODE):
        shutil.copy(EXAMPLES / name, JAVASCRIPT / name)
    if not installed.exists() or installed.read_text() != wanted:
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=JAVASCRIPT, timeout=300, check=True)
        installed.write_text(wanted)
    return JAVASCRIPT


def in_order(told: str, expected: Sequence[str]) -> str | None:
    """The first that does not follow those before it."""
    place = 0
    for one in expected:
        found = told.find(one, place)
        if found < 0:
            return one
        place = found + len(one)
    return None


@pytest.mark.parametrize("name", PYTHON)
def test_example_prints_right_answers(printed: dict[str, str], name: str) -> None:
    """To the end, without an error."""
    assert in_order(printed[name], PYTHON[name]) is None, printed[name]
    assert "Traceback" not in printed[name], printed[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUNDS)
def test_example_of_sounds_runs(start_server: StartServer, tiny_dir: Path, name: str) -> None:
    """To the end."""
    from tests import tiny  # torch

    speaker = {"id": "speaker", "task": "text-to-audio", "model": str(tiny.build("vits", tiny_dir))}
    whisper = str(tiny.build("whisper", tiny_dir))
    listener = {"id": "listener", "task": "automatic-speech-recognition", "model": whisper}
    told = run([sys.executable, EXAMPLES / name], start_server([speaker, listener]).url)
    assert in_order(told, SOUNDS[name]) is None, told


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.timeout(1800)  # for their installation, once
def test_example_of_a_framework_prints_right_answers(printed_by_frameworks: dict[str, str], name: str) -> None:
    """With LangChain and LlamaIndex, in an environment of their own."""
    assert in_order(printed_by_frameworks[name], FRAMEWORKS[name]) is None, printed_by_frameworks[name]
    assert "Traceback" not in printed_by_frameworks[name], printed_by_frameworks[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NODE)
def test_example_in_javascript_prints_right_answers(javascript: Path, url: str, name: str) -> None:
    """With Node.js."""
    told = run(["node", javascript / name], url)
    assert in_order(told, NODE[name]) is None, told


def test_every_example_is_run_and_shown() -> None:
    """None is without a row above and a place on the page of clients."""
    files = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".mjs"))
    assert files == sorted([*PYTHON, *SOUNDS, *FRAMEWORKS, *NODE])
    page = (REPOSITORY / "docs" / "clients.md").read_text()
    assert [name for name in files if f"\n[`examples/{name}`](../examples/{name})\n" not in page] == []
