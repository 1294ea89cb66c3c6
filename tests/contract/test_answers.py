"""What holds for every task, over HTTP on real models: names, headers, batches, documents."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from app.tasks.registry import TASKS
from tests.server import RunningServer, metric


def test_one_set_of_weights_serves_several_tasks(server: RunningServer) -> None:
    """The entry with two tasks answers both from one worker."""
    zero_shot = {"inputs": "a film", "parameters": {"candidate_labels": "good, bad"}, "model": "topics"}
    assert server.post("/v1/zero-shot-classification", zero_shot).status_code == 200
    assert server.post("/v1/text-classification/topics", {"inputs": "a film"}).status_code == 200


def test_alias_and_slashes_find_the_model(server: RunningServer) -> None:
    """Ids with slashes and declared aliases work in path, query and body."""
    one = server.post("/v1/sentiment-analysis/acme/reviews", {"inputs": "a good film"})
    assert one.headers["x-model"] == "acme/reviews"
    other = server.post("/v1/text-classification?model=acme/reviews", {"inputs": "a good film"})
    assert other.json() == one.json()
    body = {"inputs": {"question": "who", "context": "ada"}, "model": "qa"}
    assert server.post("/v1/question-answering", body).status_code == 200


def test_answer_tells_its_times_and_batch(server: RunningServer) -> None:
    """Headers say where the time went, and which request it was."""
    answer = server.post("/v1/text-classification", {"inputs": "a film"}, headers={"X-Request-Id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert int(answer.headers["x-batch-size"]) >= 1
    for name in ("queue", "prepare", "forward", "finish", "total"):
        assert float(answer.headers[f"x-{name}-time"]) >= 0


def test_an_equal_request_is_answered_from_the_cache(server: RunningServer) -> None:
    """In whatever dialect it asks: the same answer, a header that says so, a hit counted, the same usage."""
    body = {"model": "remembered", "input": "a good film"}
    first, second = (server.post("/v1/embeddings", body) for _ in range(2))
    assert first.json() == second.json() and second.json()["usage"]["prompt_tokens"] > 0
    assert "x-cache" not in first.headers and second.headers["x-cache"] == "hit"
    third = server.post("/v1/embeddings", body | {"input": "a bad film"})
    assert "x-cache" not in third.headers and third.json() != first.json()
    text = server.get("/metrics").text
    assert metric(text, "pipeserve_response_cache_requests_total", model="remembered", outcome="hit") == 1
    assert metric(text, "pipeserve_response_cache_requests_total", model="remembered", outcome="miss") == 2
    assert metric(text, "pipeserve_response_cache_bytes", model="remembered") > 0


def _different_requests() -> list[dict[str, Any]]:
    words = "a good film bad story loved hated every minute boring wonderful service food cat dog".split()
    variants: list[dict[str, Any]] = [{}, {"normalize": False}, {"dimensions": 64}, {"pooling": "none"}]
    return [
        {"inputs": " ".join(words[i % 5 : i % 5 + 1 + i % 9]), "parameters": variants[i % len(variants)]}
        for i in range(32)
    ]


def test_concurrent_requests_share_forwards_and_answer_as_alone(server: RunningServer) -> None:
    """32 clients with different parameters: mean batch size above 8, every answer that of the request alone."""
    url, rounds = "/v1/feature-extraction/all-MiniLM-L6-v2", 8
    requests = _different_requests()
    alone = [server.post(url, body).json() for body in requests]
    before = server.get("/metrics").text

    def run(body: dict[str, Any]) -> list[Any]:
        with server.client() as client:
            return [client.post(url, json=body).json() for _ in range(rounds)]

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(run, requests))
    after = server.get("/metrics").text

    def grown(name: str) -> float:
        labels = {"model": "all-MiniLM-L6-v2", "task": "feature-extraction"}
        return metric(after, name, **labels) - metric(before, name, **labels)

    for answers, expected in zip(found, alone, strict=True):
        for answer in answers:
            # Padded rows are summed in another order: float32 rounding, on numbers around 1.
            assert np.allclose(answer, expected, atol=1e-5)
    assert grown("pipeserve_batch_items_sum") == 32 * rounds
    assert grown("pipeserve_batch_items_sum") / grown("pipeserve_batch_items_count") > 8


def test_openapi_lists_one_path_per_task(server: RunningServer) -> None:
    """Every task and route is documented."""
    paths = server.get("/openapi.json").json()["paths"]
    assert {f"/v1/{task}" for task in TASKS} <= set(paths)
    assert {"/v1/models", "/livez", "/readyz", "/health", "/metrics"} <= set(paths)


def test_api_process_has_no_torch(server: RunningServer) -> None:
    """Neither torch nor transformers is mapped into the server's own process."""
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libtorch" not in maps
