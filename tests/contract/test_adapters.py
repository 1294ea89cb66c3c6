"""Adapters on a real server with real workers: declared, chosen in every dialect's words, loaded and forgotten."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tests import models, tiny
from tests.contract.conftest import write_catalog
from tests.runtime.generation.driving import by_generate
from tests.runtime.generation.families import build as build_family
from tests.server import RunningServer
from tests.tiny.adapters import lora, save, with_peft

PROMPT = "the cat sleeps"
NUM_TOKENS = 8
TEXTS = ["the cat sleeps", "a boring film", "ada lives in london"]


@pytest.fixture(scope="module")
def folders(models_dir: Path, tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models, and adapters: two of the writer's declared, two below the folder for run time, one of the labels'."""
    folder = tmp_path_factory.mktemp("adapters")
    writer_folder, labels_folder = tiny.build("chatml", tiny_dir), models.build("sequence-classification", models_dir)
    writer = AutoModelForCausalLM.from_pretrained(writer_folder)
    labels = AutoModelForSequenceClassification.from_pretrained(labels_folder)
    head = lora(task_type="SEQ_CLS", target_modules=["query", "value"])
    return {
        "writer": writer_folder,
        "labels": labels_folder,
        "run-time": folder / "run-time",
        "poet": save(writer, folder / "poet", lora(), seed=1),
        "exact": save(writer, folder / "exact", lora(use_dora=True), seed=2),
        "later": save(writer, folder / "run-time" / "later", lora(), seed=3),
        "other": save(writer, folder / "run-time" / "other", lora(), seed=4),
        "foreign": save(build_family("llama", hidden_size=64), folder / "run-time" / "foreign", lora()),
        "critic": save(labels, folder / "critic", head, seed=5),
    }


@pytest.fixture(scope="module")
def server(folders: dict[str, Path], models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("server")
    writer = {
        "id": "writer",
        "model": str(folders["writer"]),
        "task": "text-generation",
        "adapters": {"poet": str(folders["poet"]), "foreign": str(folders["foreign"]), "gone": "./gone"},
        "adapters_folder": str(folders["run-time"]),
    }
    labels = {"id": "labels", "model": str(folders["labels"]), "adapters": [str(folders["critic"])]}
    exact = {"id": "weights", "model": str(folders["writer"]), "adapters": {"exact": str(folders["exact"])}}
    catalog = write_catalog(folder / "models.yaml", models_dir, [writer, labels, {**exact, "task": "text-generation"}])
    with RunningServer(catalog, cache_dir=folder) as running:
        yield running


@pytest.fixture(scope="module")
def expected(folders: dict[str, Path]) -> dict[str, str]:
    """What each writes, by PEFT's own `generate`."""
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folders["writer"]),
        AutoTokenizer.from_pretrained(folders["writer"]),
    )
    ids = tokenizer(PROMPT)["input_ids"]
    adapted = {name: with_peft(model, folders[name]) for name in ("poet", "exact", "later", "other")}
    texts = {
        name: tokenizer.decode(by_generate(one, ids, NUM_TOKENS), skip_special_tokens=True)
        for name, one in {"writer": model, **adapted}.items()
    }
    assert len(set(texts.values())) == len(texts), "Adapters that change nothing tell nothing."
    return texts


def completed(server: RunningServer, model: str, path: str = "/v1/completions") -> str:
    body = {"model": model, "prompt": PROMPT, "max_tokens": NUM_TOKENS, "temperature": 0}
    answer = server.post(path, body)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["text"]
    return text


def load(server: RunningServer, name: str, path: str, **more: Any) -> httpx.Response:
    return server.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path, **more})


def test_adapters_and_their_model_write_together(server: RunningServer, expected: dict[str, str]) -> None:
    """By the adapter's own id, and by the model's with it."""
    names = ["writer", "poet", "writer:poet", "exact", "weights:exact"] * 4
    with ThreadPoolExecutor(len(names)) as pool:
        texts = list(pool.map(lambda name: completed(server, name), names))
    assert texts == [expected[name.rpartition(":")[2]] for name in names]


def test_every_dialect_knows_the_names(server: RunningServer, expected: dict[str, str]) -> None:
    """A chat is the same by all of them; Text Generation Inference's parameter and URLs name an adapter too."""
    parameters = {"max_new_tokens": NUM_TOKENS}
    for path, body in (
        ("/generate", {"inputs": PROMPT, "model": "writer", "parameters": {**parameters, "adapter_id": "poet"}}),
        ("/v1/text-generation", {"inputs": PROMPT, "model": "writer:poet", "parameters": parameters}),
        ("/v1/text-generation/poet", {"inputs": PROMPT, "parameters": parameters}),
        ("/models/writer:poet", {"inputs": PROMPT, "parameters": parameters}),
        ("/models/writer", {"inputs": PROMPT, "model": "poet", "parameters": parameters}),
    ):
        answer = server.post(path, body)
        assert answer.headers["x-model"] == "writer:poet"
        told = answer.json()
        assert (told[0] if isinstance(told, list) else told)["generated_text"] == expected["poet"], path
    assert completed(server, "poet", "/models/writer:poet/v1/completions") == expected["poet"]
    messages = [{"role": "user", "content": PROMPT}]
    chat = {"model": "poet", "messages": messages, "max_tokens": NUM_TOKENS, "temperature": 0}
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        text = client.chat.completions.create(**chat).choices[0].message.content  # type: ignore[call-overload]
        assert text != client.chat.completions.create(**{**chat, "model": "writer"}).choices[0].message.content  # type: ignore[call-overload]
    assert server.post("/v1/messages", chat).json()["content"][0]["text"] == text
    options = {"num_predict": NUM_TOKENS, "temperature": 0}
    for name in ("poet", "writer:poet", "writer:poet:latest"):
        asked = {"model": name, "messages": messages, "stream": False, "options": options}
        assert server.post("/api/chat", asked).json()["message"]["content"] == text


def test_adapters_are_listed_with_their_model(server: RunningServer) -> None:
    """As vLLM lists them; one that cannot be used says why, and harms nobody."""
    completed(server, "poet")
    cards = {card["id"]: card for card in server.get("/v1/models").json()["data"]}
    assert list(cards) == ["writer", "poet", "foreign", "gone", "labels", "critic", "weights", "exact"]
    assert (cards["poet"]["parent"], cards["poet"]["root"], cards["poet"]["state"]) == ("writer", "poet", "ready")
    assert cards["writer"]["parent"] is None and cards["writer"]["root"] == cards["writer"]["model"]
    assert cards["foreign"]["state"] == "failed" and "does not fit this model" in cards["foreign"]["reason"]
    assert server.get("/v1/models/writer:poet").json() == cards["poet"]
    assert "writer:poet" in [one["name"] for one in server.get("/api/tags").json()["models"]]
    for name, says in (("foreign", "it was made for"), ("gone", "there is no folder")):
        answer = server.post("/v1/completions", {"model": name, "prompt": "a"})
        assert answer.status_code == 503 and says in answer.json()["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "writer:nobody", "prompt": "a"}),
        ("/generate", {"model": "writer", "inputs": "a", "parameters": {"adapter_id": "nobody"}}),
        ("/models/writer:nobody/v1/completions", {"prompt": "a"}),
        ("/api/chat", {"model": "writer:nobody", "messages": [{"role": "user", "content": "a"}]}),
    ],
)
def test_unknown_adapter_is_404_with_those_that_there_are(server: RunningServer, path: str, body: Any) -> None:
    answer = server.post(path, body)
    assert answer.status_code == 404
    assert '"writer" has no adapter "nobody"; there is poet, foreign, gone' in answer.text.replace('\\"', '"')


def test_adapter_comes_and_goes_at_run_time(server: RunningServer, expected: dict[str, str]) -> None:
    """It outlives a worker that is killed; what takes its place is not taken for it."""
    assert load(server, "later", "later").text == "Success: LoRA adapter 'later' added successfully."
    assert completed(server, "later") == completed(server, "writer:later") == expected["later"]
    again = load(server, "later", "other")
    assert again.status_code == 400 and "load_inplace" in again.json()["error"]["message"]
    (pid,) = server.worker_pids("writer")
    os.kill(pid, signal.SIGKILL)
    assert completed(server, "later") == expected["later"]
    assert pid not in server.worker_pids("writer")
    assert load(server, "later", "other", load_inplace=True).status_code == 200
    assert completed(server, "later") == expected["other"]
    gone = server.post("/models/writer/v1/unload_lora_adapter", {"lora_name": "later"})
    assert gone.text == "Success: LoRA adapter 'later' removed successfully."
    assert server.post("/v1/completions", {"model": "later", "prompt": "a"}).status_code == 404
    assert server.post("/v1/unload_lora_adapter", {"lora_name": "later"}).status_code == 404
    assert completed(server, "writer") == expected["writer"]


def test_stream_outlives_its_adapter(server: RunningServer) -> None:
    """What has begun with an adapter goes on with it to its end."""
    assert load(server, "later", "later").status_code == 200
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        asked: Any = {"model": "later", "prompt": PROMPT, "max_tokens": 200, "temperature": 0}
        more: Any = {"extra_body": {"ignore_eos": True}}
        whole = client.completions.create(**asked, **more).choices[0].text
        stream = iter(client.completions.create(**asked, **more, stream=True))
        first = next(stream)
        assert server.post("/v1/unload_lora_adapter", {"lora_name": "later"}).status_code == 200
        assert first.choices[0].text + "".join(one.choices[0].text for one in stream) == whole


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"lora_path": "nowhere"}, "no such folder below the `adapters_folder`"),
        ({"lora_path": "../poet"}, "no such folder below the `adapters_folder`"),
        ({"lora_path": "acme/poet"}, "no pattern of `adapters_allow`"),
        ({"lora_path": "later", "model": "labels"}, "declare `adapters_folder`"),
        ({"lora_path": "foreign"}, "does not fit this model"),
        ({"lora_path": "later", "lora_name": "poet"}, "has been loaded already"),
        ({"lora_path": "later", "lora_name": "labels"}, "something else"),
        ({"lora_path": "later", "lora_name": "critic"}, "something else"),
        ({"lora_path": "later", "lora_rank": 3}, "lora_rank"),
        ({}, "lora_path"),
    ],
)
def test_what_may_not_be_loaded_is_said_so(server: RunningServer, body: Any, says: str) -> None:
    answer = server.post("/v1/load_lora_adapter", {"lora_name": "new", **body})
    assert answer.status_code == 400 and says in answer.json()["error"]["message"]
    assert "new" not in [card["id"] for card in server.get("/v1/models").json()["data"]]


def test_classifier_is_that_of_peft(server: RunningServer, folders: dict[str, Path]) -> None:
    """With the head that was trained with the adapter, among requests for the model itself."""
    tokenizer = AutoTokenizer.from_pretrained(folders["labels"])
    model = AutoModelForSequenceClassification.from_pretrained(folders["labels"])
    wanted = {"labels": model, "critic": with_peft(model, folders["critic"])}
    names = ["labels", "critic", "labels:critic"] * 4

    def scores(name: str) -> list[list[float]]:
        body = {"model": name, "inputs": TEXTS, "parameters": {"top_k": None}}
        answer = server.post("/v1/text-classification", body).json()
        return [[one["score"] for one in sorted(row, key=lambda one: str(one["label"]))] for row in answer]

    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(scores, names))
    for name, rows in zip(names, found, strict=True):
        with torch.inference_mode():
            logits = wanted[name.rpartition(":")[2]](**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
        # Labels in the order of their names: NEGATIVE, NEUTRAL, POSITIVE is that of the logits.
        torch.testing.assert_close(torch.tensor(rows), logits.softmax(-1), atol=1e-5, rtol=0)
    assert found[0] != found[1]
