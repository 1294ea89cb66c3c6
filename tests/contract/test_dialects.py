"""What clients of other servers ask, on real models: the numbers are those of the task's own route."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import orjson
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient

from tests import tiny
from tests.server import RunningServer

pytestmark = pytest.mark.usefixtures("hub_is_online")

MINILM = "all-MiniLM-L6-v2"
QUERY = "who wrote the first program?"
TEXTS = ["the stock market fell", "ada lovelace wrote the first program", "a cat sleeps"]
GENERATORS = [name for name, task in tiny.TASK_OF.items() if task == "text-generation"]


def ask(server: RunningServer, path: str, body: Any) -> Any:
    response = server.post(path, body)
    assert response.status_code == 200, (path, response.text)
    return response.json()


def test_embed_is_feature_extraction(server: RunningServer) -> None:
    """TEI's vectors of a sentence-transformers model, at the root and below the model's URL."""
    plain = ask(server, f"/v1/feature-extraction/{MINILM}", {"inputs": TEXTS})
    for path in (f"/embed?model={MINILM}", f"/models/{MINILM}/embed", f"/models/{MINILM}/invocations"):
        assert np.allclose(ask(server, path, {"inputs": TEXTS}), plain, atol=1e-6), path
    predictions = ask(server, "/predict", {"instances": TEXTS, "model": MINILM})["predictions"]
    assert np.allclose([one[0] for one in predictions], plain, atol=1e-6)
    long = ask(server, f"/embed?model={MINILM}", {"inputs": "a good film " * 500})
    assert np.isclose(np.linalg.norm(long), 1.0, atol=1e-5)


def test_embed_all_has_a_vector_for_each_token(server: RunningServer) -> None:
    """As many as /tokenize counts."""
    (vectors,) = ask(server, f"/embed_all?model={MINILM}", {"inputs": TEXTS[0]})
    (tokens,) = ask(server, f"/tokenize?model={MINILM}", {"inputs": TEXTS[0]})
    assert len(vectors) == len(tokens)
    ids = [token["id"] for token in tokens]
    assert ask(server, f"/decode?model={MINILM}", {"ids": ids}) == [TEXTS[0]]
    assert [token["special"] for token in tokens] == [True, False, False, False, False, True]


def test_model_without_pooling_is_told(server: RunningServer) -> None:
    """/embed answers a vector per text or a sentence about why not."""
    response = server.post("/embed?model=tokens", {"inputs": TEXTS})
    assert response.status_code == 422 and "pooling" in response.json()["error"]


def test_sparse_vectors_come_from_a_masked_language_model(server: RunningServer) -> None:
    """SPLADE's weights; the text's answer does not depend on what it is computed with."""
    together = ask(server, "/embed_sparse?model=words", {"inputs": TEXTS})
    (alone,) = ask(server, "/models/words/embed_sparse", {"inputs": TEXTS[0]})
    assert [one["index"] for one in together[0]] == [one["index"] for one in alone]
    assert np.allclose([one["value"] for one in together[0]], [one["value"] for one in alone], atol=1e-5)


def test_predict_is_text_classification(server: RunningServer) -> None:
    """A text, a pair, and a batch of both."""
    text = ask(server, "/predict?model=acme/reviews", {"inputs": TEXTS[0]})
    assert text == ask(server, "/v1/text-classification/acme/reviews", {"inputs": TEXTS[0]})[0]
    pair = ask(server, "/predict?model=acme/reviews", {"inputs": TEXTS[:2]})
    batch = ask(server, "/predict?model=acme/reviews", {"inputs": [TEXTS[:1], TEXTS[:2]]})
    for given, alone in zip(batch, [text, pair], strict=True):
        assert [one["label"] for one in given] == [one["label"] for one in alone]
        assert np.allclose([one["score"] for one in given], [one["score"] for one in alone], atol=1e-5)


def test_all_ways_of_ranking_agree(server: RunningServer) -> None:
    """text-ranking, TEI, Jina, Cohere (v1, v2): one cross-encoder, one order."""
    ranked = ask(server, "/v1/text-ranking", {"inputs": {"query": QUERY, "texts": TEXTS}})
    assert {one["index"] for one in ranked} == {0, 1, 2}
    assert all(0 <= one["score"] <= 1 for one in ranked)
    assert ask(server, "/rerank", {"query": QUERY, "texts": TEXTS}) == ranked
    for path in ("/v1/rerank", "/v2/rerank", "/rerank", "/models/ranker/v1/rerank"):
        answer = ask(server, path, {"query": QUERY, "documents": TEXTS, "top_n": 2, "model": "ranker"})
        assert [(one["index"], one["relevance_score"]) for one in answer["results"]] == [
            (one["index"], one["score"]) for one in ranked[:2]
        ]
        assert answer["usage"]["total_tokens"] > 3 * 6


@pytest.mark.parametrize("names", [("text_1", "text_2"), ("queries", "documents")])
def test_score_is_the_models_own(server: RunningServer, names: tuple[str, str]) -> None:
    """vLLM's /score: a cross-encoder's ranks, an embedding model's cosines, in the order of the texts."""
    first, second = names
    ranked = ask(server, "/v1/text-ranking", {"inputs": {"query": QUERY, "texts": TEXTS}})
    answer = ask(server, "/v1/score", {first: QUERY, second: TEXTS, "model": "ranker"})
    expected = {one["index"]: one["score"] for one in ranked}
    assert [one["score"] for one in answer["data"]] == pytest.approx([expected[index] for index in range(3)], abs=1e-6)
    vectors = np.asarray(ask(server, "/v1/feature-extraction/vectors", {"inputs": [QUERY, *TEXTS]}))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    answer = ask(server, "/models/vectors/score", {first: [QUERY, *TEXTS[:2]], second: TEXTS})
    assert [one["score"] for one in answer["data"]] == pytest.approx((vectors[:3] * vectors[1:]).sum(-1), abs=1e-5)
    tokens = ask(server, "/tokenize?model=vectors", {"inputs": [QUERY, *TEXTS[:2], *TEXTS]})
    assert answer["usage"]["prompt_tokens"] == sum(map(len, tokens))


def test_classify_has_the_chances_in_the_models_order(server: RunningServer) -> None:
    """vLLM's /classify, its usage and what it says of a text that is too long."""
    answer = ask(server, "/classify", {"input": TEXTS, "model": "acme/reviews"})
    plain = ask(server, "/v1/text-classification/acme/reviews", {"inputs": TEXTS})
    for one, labels in zip(answer["data"], plain, strict=True):
        scores = {label["label"]: label["score"] for label in labels}
        assert one["label"] == labels[0]["label"] and one["num_classes"] == 3
        assert one["probs"] == pytest.approx([scores[name] for name in ("NEGATIVE", "NEUTRAL", "POSITIVE")], abs=1e-5)
    tokens = ask(server, "/tokenize?model=acme/reviews", {"inputs": TEXTS})
    assert answer["usage"] == {
        "prompt_tokens": sum(map(len, tokens)), "completion_tokens": 0, "total_tokens": sum(map(len, tokens)),
    }  # fmt: skip
    long = {"input": ["a", "a good film " * 300], "model": "acme/reviews"}
    error = server.post("/v1/classify", long).json()["error"]
    assert (error["param"], error["code"]) == ("input[1]", "context_length_exceeded")
    ask(server, "/v1/classify", {**long, "truncate_prompt_tokens": -1})


def test_chat_has_the_tokens_that_it_is_charged_for(server: RunningServer) -> None:
    """vLLM's /tokenize counts what /v1/chat/completions reads, tools and thoughts included."""
    body: dict[str, Any] = {
        "model": "chatml",
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"type": "function", "function": {"name": "ping"}}],
        "chat_template_kwargs": {"enable_thinking": True},
    }
    tokens = ask(server, "/tokenize", {**body, "return_token_strs": True})
    usage = ask(server, "/v1/chat/completions", {**body, "max_completion_tokens": 1})["usage"]
    assert tokens["count"] == len(tokens["tokens"]) == len(tokens["token_strs"]) == usage["prompt_tokens"]
    assert tokens["max_model_len"] == 2048 and tokens["token_strs"][0] == "<|im_start|>"
    text = ask(server, "/detokenize", {"model": "chatml", "tokens": tokens["tokens"]})["prompt"]
    assert "ping" in text and text.endswith("<think>\n")
    late = [*body["messages"], {"role": "system", "content": "late"}]
    response = server.post("/tokenize", {**body, "messages": late})
    assert response.status_code == 422 and response.json()["error"].startswith("messages: the model's chat template")


def test_similarity_is_sentence_similarity(server: RunningServer) -> None:
    """TEI's body is that of the task."""
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS}, "parameters": {"truncation_direction": "Left"}}
    given = ask(server, f"/similarity?model={MINILM}", body)
    assert np.isclose(given[0], 1.0, atol=1e-5) and len(given) == 3


def test_worker_refuses_what_only_it_can_see(server: RunningServer) -> None:
    """Tokens beyond the vocabulary; a text that is too long and not to be cut."""
    assert server.post("/decode?model=words", {"ids": [10**7]}).status_code == 422
    long = {"inputs": "a good film " * 300, "truncate": False}
    assert server.post(f"/embed?model={MINILM}", long).status_code == 413
    assert server.post("/predict?model=acme/reviews", long).status_code == 413
    assert server.post("/predict?model=acme/reviews", {**long, "truncate": True}).status_code == 200


@pytest.mark.parametrize("model", GENERATORS[:1])
def test_client_streams_a_generation(server: RunningServer, model: str) -> None:
    """`InferenceClient.text_generation(stream=True)`, with and without details, sync and async, wherever it asks."""
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}
    whole = ask(server, "/generate", {"inputs": "a good film", "parameters": options, "model": model})
    for path in (f"/models/{model}", f"/v1/text-generation?model={model}", f"/?model={model}"):
        client = InferenceClient(model=server.url + path, token="none")
        assert client.text_generation("a good film", **options) == whole["generated_text"]
        details = client.text_generation("a good film", details=True, **options)
        events = list(client.text_generation("a good film", stream=True, details=True, **options))
        assert [event.token.id for event in events] == [token.id for token in details.details.tokens]
        assert events[-1].generated_text == whole["generated_text"]
        assert events[-1].details is not None
        assert events[-1].details.generated_tokens == details.details.generated_tokens == len(events)
        texts = list(client.text_generation("a good film", stream=True, **options))
        assert texts == [event.token.text for event in events if not event.token.special]

    async def stream() -> list[int]:
        async with AsyncInferenceClient(model=f"{server.url}/models/{model}", token="none") as client:
            answers = await client.text_generation("a good film", stream=True, details=True, **options)
            return [event.token.id async for event in answers]

    assert asyncio.run(stream()) == [event.token.id for event in events]


@pytest.mark.parametrize("model", GENERATORS[:1])
def test_tgi_streams_a_generation(server: RunningServer, model: str) -> None:
    """/generate_stream, SageMaker and Vertex give the same text."""
    body = {"inputs": "a good film", "parameters": {"max_new_tokens": 5}, "model": model}
    whole = ask(server, "/generate", body)["generated_text"]
    for path, more in (("/generate_stream", {}), ("/invocations", {"stream": True})):
        response = server.post(path, {**body, **more})
        data = [orjson.loads(line.removeprefix("data:")) for line in response.text.split("\n") if line]
        assert [one["index"] for one in data] == list(range(1, len(data) + 1))
        assert data[-1]["generated_text"] == whole
    instance = {name: body[name] for name in ("inputs", "parameters")}
    assert ask(server, "/predict", {"instances": [instance] * 2, "model": model}) == {"predictions": [whole] * 2}
    tokens = ask(server, f"/tokenize?model={model}", {"inputs": "a good film"})
    assert "".join(token["text"] for token in tokens).replace(" ", "").endswith("agoodfilm")


def test_every_route_is_in_the_document(server: RunningServer) -> None:
    """What /openapi.json shows of each dialect is an example that a model here answers."""
    paths = server.get("/openapi.json").json()["paths"]
    served = set(server.get("/").json()["tasks"])
    assert {"/embed", "/rerank", "/v1/rerank", "/v2/rerank", "/generate_stream", "/info", "/ping"} <= set(paths)
    assert {"text-ranking", "feature-extraction"} <= served
