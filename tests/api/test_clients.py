"""Every text method of `huggingface_hub`'s clients, as its users call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient, constants
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from app import errors
from tests.api.conftest import LiveServer
from tests.api.fake_fleet import ANSWERS

Call = Callable[[Any], Any]
TOKEN = "none"  # so that nobody's real one is sent

CALLS: dict[str, tuple[str, Call]] = {
    "text-classification": ("reviews", lambda client: client.text_classification("good", top_k=2)),
    "zero-shot-classification": (
        "acme/labels",
        lambda client: client.zero_shot_classification("good", ["music", "sport"], multi_label=True),
    ),
    "token-classification": ("ner", lambda client: client.token_classification("Ada", aggregation_strategy="max")),
    "fill-mask": ("mask", lambda client: client.fill_mask("a [MASK]", top_k=1, targets=["paris"])),
    "feature-extraction": (
        "vectors",
        lambda client: client.feature_extraction("a", normalize=True, truncate=True, truncation_direction="Left"),
    ),
    "question-answering": (
        "answers",
        lambda client: client.question_answering(question="who?", context="Ada"),
    ),
    "table-question-answering": (
        "tables",
        lambda client: client.table_question_answering(table={"a": ["3"]}, query="how many?"),
    ),
}


@pytest.fixture(autouse=True)
def _hub_is_online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run with HF_HUB_OFFLINE, which makes the client refuse every URL, that of our own server included."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def _urls(server: LiveServer, task: str, model_id: str) -> list[str]:
    paths = (f"/v1/{task}", f"/v1/{task}?model={model_id}", f"/v1/{task}/{model_id}", f"/models/{model_id}")
    return [server.url + path for path in paths]


def _plain(answer: Any) -> Any:
    """The client's dataclasses as plain values."""
    if isinstance(answer, np.ndarray):
        return answer.tolist()
    if isinstance(answer, list):
        return [_plain(one) for one in answer]
    return {name: value for name, value in dict(answer).items() if value is not None}


def _expected(task: str) -> Any:
    fragment = ANSWERS[task]
    return [fragment] if task == "feature-extraction" else fragment


@pytest.mark.parametrize("task", CALLS)
def test_method_works_on_every_form_of_url(server: LiveServer, task: str) -> None:
    """`/v1/<task>` and `/models/<id>` alike."""
    model_id, call = CALLS[task]
    for url in _urls(server, task, model_id):
        assert _plain(call(InferenceClient(model=url, token=TOKEN))) == _expected(task)


@pytest.mark.parametrize("task", CALLS)
async def test_async_method_works(server: LiveServer, task: str) -> None:
    """The asynchronous client sends the same."""
    model_id, call = CALLS[task]
    async with AsyncInferenceClient(model=f"{server.url}/models/{model_id}", token=TOKEN) as client:
        answer: Awaitable[Any] = call(client)
        assert _plain(await answer) == _expected(task)


def test_sentence_similarity(server: LiveServer) -> None:
    """It is served by an embedding model."""
    client = InferenceClient(model=f"{server.url}/v1/sentence-similarity", token=TOKEN)
    assert client.sentence_similarity("a", ["b", "c"]) == ANSWERS["sentence-similarity"]


def test_url_as_the_model_of_one_call(server: LiveServer) -> None:
    """The other way in which the client takes a URL."""
    client = InferenceClient(token=TOKEN)
    answer = client.text_classification("good", model=f"{server.url}/v1/text-classification")
    assert _plain(answer) == ANSWERS["text-classification"]


def test_trace_id_of_the_client_is_the_request_id(server: LiveServer) -> None:
    """It sends one with every call."""
    InferenceClient(model=f"{server.url}/models/reviews", token=TOKEN).text_classification("good")
    assert len(server.fleet.jobs[-1].request_id) == 36


def test_client_shows_our_sentence(server: LiveServer) -> None:
    """Of a wrong parameter and of a full queue."""
    client = InferenceClient(model=f"{server.url}/models/reviews", token=TOKEN)
    with pytest.raises(HfHubHTTPError, match=r"parameters\.top_k"):
        client.text_classification("good", top_k=-1)
    server.fleet.error = errors.Overloaded("The queue is full.")
    with pytest.raises(HfHubHTTPError, match="queue is full"):
        client.text_classification("good")
    server.fleet.error = errors.MalformedBody("It is not JSON.")
    with pytest.raises(BadRequestError, match="not JSON"):
        client.text_classification("good")


def test_client_asks_for_health_and_info(server: LiveServer) -> None:
    """Below the model's URL and at the server's root."""
    client = InferenceClient(provider="hf-inference", model=f"{server.url}/models/reviews", token=TOKEN)
    assert client.health_check()
    assert client.get_endpoint_info()["model_id"] == "reviews"
    assert InferenceClient(provider="hf-inference", model=server.url, token=TOKEN).health_check()
