"""What is wrong with a request is said in a sentence that names it; no worker ends, no neighbour suffers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.conftest import StartServer
from tests.server import RunningServer, metric

LONG = "a good film " * 400
ZERO_SHOT, QA, TABLES = "zero-shot-classification", "question-answering", "table-question-answering"

CASES: list[tuple[str, Any, int, str]] = [
    ("text-classification", {"inputs": ""}, 422, "inputs"),
    ("text-classification", {"inputs": []}, 422, "inputs"),
    ("text-classification", {"inputs": ["a", 1]}, 422, "inputs"),
    ("text-classification", {"inputs": {"text_pair": "a"}}, 422, "inputs.text"),
    ("text-classification", {"inputs": "a", "parameters": {"top_k": -1}}, 422, "parameters.top_k"),
    ("text-classification", {"inputs": "a", "parameters": {"topk": 1}}, 422, "parameters.topk"),
    ("text-classification", {"input": "a"}, 422, "input"),
    ("text-classification", {"inputs": LONG}, 413, "inputs[0]"),
    ("text-classification", {"inputs": "a" * 10_000_000}, 413, "1000000"),
    ("text-classification", {"inputs": "a", "model": "no-such"}, 404, "no-such"),
    ("text-classification", {"inputs": "a", "model": "words"}, 404, "words"),
    ("no-such-task", {"inputs": "a"}, 404, "no-such-task"),
    ("feature-extraction", {"inputs": LONG, "truncate": False}, 413, "inputs[0]"),
    ("feature-extraction", {"inputs": "a", "prompt_name": "no-such"}, 422, "prompt_name"),
    ("feature-extraction", {"inputs": "a", "dimensions": 100_000}, 422, "dimensions"),
    ("token-classification", {"inputs": "a", "parameters": {"aggregation_strategy": "best"}}, 422, "aggregation"),
    ("token-classification", {"inputs": "a", "parameters": {"stride": 60_000}}, 422, "parameters.stride"),
    ("fill-mask", {"inputs": "no mask here"}, 422, "[MASK]"),
    ("fill-mask", {"inputs": "a [MASK]", "parameters": {"top_k": 10_000_000}}, 422, "parameters.top_k"),
    (ZERO_SHOT, {"inputs": "a"}, 422, "parameters.candidate_labels"),
    (ZERO_SHOT, {"inputs": "a", "parameters": {"candidate_labels": []}}, 422, "parameters.candidate_labels"),
    (ZERO_SHOT, {"inputs": "a", "parameters": {"candidate_labels": ["b"] * 10_000}}, 413, "10000"),
    (QA, {"inputs": "who"}, 422, "inputs"),
    (QA, {"inputs": {"question": "who", "context": ""}}, 422, "inputs.context"),
    (QA, {"inputs": {"question": "w", "context": "a"}, "parameters": {"max_seq_len": 9999}}, 422, "max_seq_len"),
    (TABLES, {"inputs": {"query": "who", "table": {"a": ["1"], "b": []}}}, 422, "inputs.table"),
    ("sentence-similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 422, "inputs.sentences"),
]


@pytest.mark.parametrize(("task", "body", "status", "names"), CASES)
def test_wrong_request_gets_its_status_and_a_sentence(
    server: RunningServer, task: str, body: Any, status: int, names: str
) -> None:
    """Each wrong request, in Hugging Face's form of an error."""
    answer = server.post(f"/v1/{task}", body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "error_type"}
    assert names in answer.json()["error"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"inputs": NaN}', b'{"inputs": "\xff\xfe"}', b'"text"', b'{"inputs": "\\ud800"}']
)
def test_malformed_body_is_a_400(server: RunningServer, content: bytes) -> None:
    """Broken JSON, invalid UTF-8, NaN and lone surrogates never get further than the door."""
    with server.client() as client:
        answer = client.post("/v1/text-classification", content=content)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_type"] == "malformed"


def test_bad_inputs_cost_no_worker(server: RunningServer) -> None:
    """After all of the above no worker was restarted, and the models still answer."""
    assert server.post("/v1/text-classification", {"inputs": "a good film"}).status_code == 200
    assert metric(server.get("/metrics").text, "pipeserve_restarts_total") == 0


def test_one_bad_input_of_a_list_is_named(server: RunningServer) -> None:
    """The error says which input of the list it was."""
    answer = server.post("/v1/fill-mask", {"inputs": ["a [MASK]", "nothing"]})
    assert answer.status_code == 422
    assert "inputs[1]" in answer.json()["error"]


def test_entry_that_cannot_be_served_fails_alone(start_server: StartServer) -> None:
    """A missing folder and an unreachable Hub are sentences on their own pages; the others serve."""
    server = start_server(
        [
            {"id": "gone", "task": "fill-mask", "model": "./no-such-folder"},
            {"id": "far", "task": "fill-mask", "model": "acme/not-on-this-disk"},
            {"id": "here", "task": "text-classification", "model": "sequence-classification"},
        ]
    )
    assert server.post("/v1/text-classification", {"inputs": "a"}).status_code == 200
    for model_id, says in (("gone", "no-such-folder"), ("far", "the Hub is not to be asked")):
        answer = server.post(f"/v1/fill-mask/{model_id}", {"inputs": "a [MASK]"})
        assert answer.status_code == 503, answer.text
        assert answer.headers["x-should-retry"] == "false"
        assert says in answer.json()["error"]
        page = server.get(f"/v1/models/{model_id}").json()
        assert page["state"] == "failed"
        assert says in page["reason"]


def test_broken_weights_fail_with_their_sentence(start_server: StartServer, models_dir: Any, tmp_path: Any) -> None:
    """Weights that cannot be read are the entry's failure, not the server's."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in (models_dir / "sequence-classification").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)
    server = start_server(
        [
            {"id": "broken", "task": "text-classification", "model": str(folder)},
            {"id": "here", "task": "text-classification", "model": "sequence-classification"},
        ]
    )
    answer = server.post("/v1/text-classification/broken", {"inputs": "a"})
    assert answer.status_code == 503, answer.text
    assert server.get("/v1/models/broken").json()["state"] == "failed"
    assert server.post("/v1/text-classification/here", {"inputs": "a"}).status_code == 200
