"""Bombs that pass the door and reach a model: each has its answer, and who is served beside it has all of theirs."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.contract.conftest import write_catalog
from tests.hostile.bombs import LABELS, TENSORS, Bomb
from tests.hostile.conftest import Neighbour
from tests.runtime.test_structure import BOMBS
from tests.server import RunningServer, wait_until

CHAT = "/v1/chat/completions"
HELLO = {"role": "user", "content": "Hello"}
BRACKETS = 100_000
NUM_LETTERS = 100
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
FORWARD_S = 1
DEEP: dict[str, Any] = {"type": "integer"}
for _ in range(110):
    DEEP = {"items": DEEP}


REVIEWS: dict[str, Any] = {"id": "rev", "task": "text-classification", "model": "sequence-classification"}


@contextmanager
def serving(folder: Path, models_dir: Path, entries: list[dict[str, Any]], *arguments: str) -> Iterator[RunningServer]:
    """With the neighbour's model and these, the first of which is loaded, too."""
    catalog = write_catalog(folder / "models.yaml", models_dir, [REVIEWS, *entries])
    with RunningServer(catalog, *arguments, cache_dir=folder) as running:
        for model in ("rev", entries[0]["id"]):
            assert running.post(f"/v1/models/{model}/load?wait=true", {}).status_code == 200
        yield running


@pytest.fixture(scope="module")
def server(models_dir: Path, tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    from tests import tiny  # torch

    chat, images = tiny.build("chatml", tiny_dir), tiny.build("vit-classifier", tiny_dir)
    entries: list[dict[str, Any]] = [
        {"id": "chat", "task": "text-generation", "model": str(chat)},
        {"id": "topics", "task": "zero-shot-classification", "model": "nli"},
        {"id": "tiny-image-classification", "task": "image-classification", "model": str(images)},
    ]
    with serving(tmp_path_factory.mktemp("hostile"), models_dir, entries) as running:
        yield running


@pytest.fixture
def looping(models_dir: Path, tiny_dir: Path, tmp_path: Path) -> Iterator[RunningServer]:
    """Its model `looping` has a chat template that ends in some hours."""
    from tests import tiny  # torch

    folder = shutil.copytree(tiny.build("chatml", tiny_dir), tmp_path / "looping")
    (folder / "chat_template.jinja").write_text(ENDLESS)
    entry = {"id": "looping", "task": "text-generation", "model": str(folder)}
    with serving(tmp_path, models_dir, [entry], "--forward-timeout", f"{FORWARD_S}s") as running:
        yield running


@contextmanager
def beside_a_neighbour(server: RunningServer) -> Iterator[None]:
    """Fails where its requests are not answered."""
    one = Neighbour(server.url, pause_s=0.05)
    with one.asking():
        yield
    assert one.statuses and set(one.statuses) == {200}, one.statuses


@pytest.fixture
def neighbour(server: RunningServer) -> Iterator[None]:
    """Fails a test whose requests cost it an answer."""
    with beside_a_neighbour(server):
        yield


def ask(server: RunningServer, **body: Any) -> httpx.Response:
    return server.post(CHAT, {"model": "chat", "messages": [HELLO], "max_tokens": 8, **body})


def streamed_letters(server: RunningServer) -> int:
    """Of a text that has `NUM_LETTERS`, each a token of the tiny model's."""
    body = {"model": "chat", "messages": [HELLO], "max_tokens": 2 * NUM_LETTERS, "stream": True}
    body["structured_outputs"] = {"regex": f"[a-z]{{{NUM_LETTERS}}}"}
    text = ""
    with server.client() as client, client.stream("POST", CHAT, json=body) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                text += json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content") or ""
    return len(text)


@contextmanager
def streaming(server: RunningServer) -> Iterator[list[int]]:
    """One stream after the other; their letters."""
    is_over = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not is_over.is_set():
            seen.append(streamed_letters(server))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join(60)


OUTPUTS = {"json_schema": "json", "regex": "regex", "grammar": "grammar"}
"""What vLLM's clients call the kinds of structures."""
HEAVIEST = (*BOMBS[:3], *BOMBS[-4:])


def test_grammars_cost_a_stream_beside_them_no_token(server: RunningServer, neighbour: None) -> None:
    """They are refused in a sentence, or followed, at their own cost."""
    with streaming(server) as seen:
        wait_until(lambda: len(seen) > 0, timeout_s=60, what="the first stream")
        answers = [ask(server, structured_outputs={OUTPUTS[one["kind"]]: one["value"]}) for one in HEAVIEST]
    for answer in answers:
        assert answer.status_code in (200, 400), answer.text[:300]
        assert answer.status_code == 200 or len(answer.json()["error"]["message"]) < 1000
    assert {answer.status_code for answer in answers} == {200, 400}
    assert len(seen) > 1
    assert set(seen) == {NUM_LETTERS}


def test_tools_as_deep_as_they_may_be_reach_the_template(server: RunningServer, neighbour: None) -> None:
    """110 levels, which the tiny model's template writes into its prompt."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": DEEP}}]
    answer = ask(server, tools=tools)
    assert answer.status_code == 200, answer.text[:300]
    assert answer.json()["usage"]["prompt_tokens"] > len(json.dumps(DEEP))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("[" * BRACKETS, 400),
        ("[" * BRACKETS + "]" * BRACKETS, 400),
        ('{"a":' * 200 + "1" + "}" * 200, 200),
        ('{"a":' * 200, 200),
    ],
    ids=["begun", "whole", "deep", "cut"],
)
def test_arguments_of_a_call_are_as_deep_as_they_like(
    server: RunningServer, neighbour: None, arguments: str, status: int
) -> None:
    """The worker reads them, for the template; as many brackets as here do not fit the model's context."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    told = {"role": "tool", "tool_call_id": "call_1", "content": "done"}
    answer = ask(server, messages=[HELLO, {"role": "assistant", "tool_calls": [call]}, told])
    assert answer.status_code == status, answer.text[:300]
    if status == 400:
        assert "this model's context is" in answer.json()["error"]["message"]


def test_labels_are_counted_at_the_door(server: RunningServer, neighbour: None) -> None:
    """100,000 are refused, a thousand answered."""
    labels = [f"topic {number}" for number in range(100_000)]
    refused = server.post(LABELS, {"inputs": "a", "parameters": {"candidate_labels": labels}})
    assert refused.status_code == 413
    assert "the limit is 1000" in refused.json()["error"]
    answered = server.post(LABELS, {"inputs": "a", "parameters": {"candidate_labels": labels[:1000]}})
    assert answered.status_code == 200
    assert len(answered.json()) == 1000


@pytest.mark.parametrize("bomb", [pytest.param(bomb, id=bomb.name) for bomb in TENSORS])
def test_tensors_are_counted_at_the_door(server: RunningServer, neighbour: None, bomb: Bomb) -> None:
    """By their shapes, before anything is made of them."""
    with server.client() as client:
        answer = client.post(bomb.path, content=bomb.content(), headers=dict(bomb.headers))
    assert answer.status_code == bomb.status, answer.text[:300]
    assert bomb.says in answer.json()["error"]


LOOPING = {"model": "looping", "messages": [HELLO]}


@pytest.mark.slow
def test_template_without_an_end_is_its_models_trouble(looping: RunningServer) -> None:
    """The client has its answer at its deadline; the worker is ended after five times `--forward-timeout`."""
    with beside_a_neighbour(looping):
        pids = set(looping.worker_pids("looping"))
        late = looping.post(CHAT, LOOPING, headers={"X-Request-Timeout": "500ms"})
        assert late.status_code == 504, late.text
        assert pids & set(looping.worker_pids("looping"))
        wait_until(lambda: not pids & set(looping.worker_pids("looping")), what="the worker's end")
    assert any(f"in one prepare for {5 * FORWARD_S} s and was killed" in line for line in looping.log)


@pytest.mark.slow
def test_template_without_an_end_is_told_from_a_fault_of_the_server(looping: RunningServer) -> None:
    """Who has no shorter deadline hears, when a second worker has been ended, that it was this request."""
    with beside_a_neighbour(looping):
        answer = looping.post(CHAT, LOOPING)
    assert answer.status_code == 500, answer.text
    assert answer.json()["error"]["code"] == "worker_lost"
