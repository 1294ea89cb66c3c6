"""Every task on a real model, as its users ask: by curl, by `/docs`' example, by Hugging Face's clients.

The rows of docs/tasks.md are what these tests run.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from PIL.Image import Image
from pydantic import TypeAdapter

from app.tasks.curl import FILES, curl_of
from app.tasks.registry import TASKS
from scripts.python_example import METHOD_NAMES
from tests.contract.clients import METHODS
from tests.server import RunningServer

pytestmark = [
    pytest.mark.usefixtures("hub_is_online"),
    # The asynchronous client hands raw bytes to its HTTP library in a way that this calls old.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the documents' commands run in."""
    folder = tmp_path_factory.mktemp("files")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("task", TASKS)
def test_curl_of_the_documents_is_answered(server: RunningServer, files: Path, task: str) -> None:
    """The command runs as it is printed, and its answer has the documented form."""
    command = curl_of(TASKS[task], server.url).replace("curl -s ", "curl -sS --fail-with-body ")
    done = subprocess.run(["bash", "-c", command], cwd=files, capture_output=True, timeout=100)
    assert done.returncode == 0, (command, done.stdout[:500], done.stderr)
    if TASKS[task].answers[0] == "application/json":
        TypeAdapter(TASKS[task].output_type).validate_python(json.loads(done.stdout))
    else:
        answers = [path for path in files.iterdir() if path.name.startswith("answer.")]
        assert answers and all(path.stat().st_size > 100 for path in answers)
        for path in answers:
            path.unlink()


@pytest.mark.parametrize("task", TASKS)
def test_example_of_the_documentation_answers(server: RunningServer, task: str) -> None:
    """What `/docs` shows runs as it stands, and its answer has the documented form."""
    answer = server.post(f"/v1/{task}", TASKS[task].example.body, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    assert type(answer.json()) is type(TASKS[task].example.answer)


@pytest.mark.parametrize("task", METHODS)
def test_sync_and_async_clients_get_the_same_answer(server: RunningServer, task: str) -> None:
    """`InferenceClient` and `AsyncInferenceClient`, at the task's URL and at the model's."""
    models = server.get("/v1/models").json()["data"]
    ids = [model["id"] for part in ("tasks", "implied_tasks") for model in models if task in model[part]]
    model_id = ids[0]  # who declares the task goes before who implies it
    urls = [f"{server.url}/v1/{task}", f"{server.url}/models/{model_id}/pipeline/{task}"]
    _, call = METHODS[task]

    async def ask(url: str) -> Any:
        async with AsyncInferenceClient(model=url, token="none") as client:
            return await call(client)

    answers = [call(InferenceClient(model=url, token="none")) for url in urls]
    answers += [asyncio.run(ask(url)) for url in urls]
    for other in answers[1:]:
        if task in ("feature-extraction", "sentence-similarity"):
            assert np.allclose(answers[0], other, atol=1e-6)
        else:
            assert comparable(other) == comparable(answers[0])


def comparable(answer: Any) -> Any:
    """The client's dataclasses and images as values."""
    if isinstance(answer, Image):
        return answer.size, answer.tobytes()
    if isinstance(answer, list):
        return [comparable(one) for one in answer]
    if isinstance(answer, dict):  # the client's dataclasses are
        return {name: comparable(value) for name, value in answer.items()}
    # A score of the same request may differ in its last digits: it is summed with others beside it.
    return round(answer, 5) if isinstance(answer, float) else answer


def test_every_method_of_the_client_has_a_row() -> None:
    """The documents name a method for exactly the tasks that are tried with one, and it exists."""
    assert {task: name for task, (name, _) in METHODS.items()} == METHOD_NAMES
    assert set(METHOD_NAMES) <= set(TASKS)
    assert all(callable(getattr(InferenceClient, name)) for name in METHOD_NAMES.values())
