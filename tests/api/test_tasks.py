"""Task routes: which model answers, what a request may say, how the answer looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import msgspec
import orjson
import pytest

from app.tasks.registry import ALIASES, TASKS
from tests.api.conftest import MAX_BODY_BYTES, LiveServer
from tests.api.fake_fleet import ANSWERS, LABELS

TEXT = {"inputs": "a text"}
CLASSIFY = "/v1/text-classification"


@pytest.mark.parametrize("name", [*TASKS, *ALIASES])
def test_every_task_answers_its_example(server: LiveServer, name: str) -> None:
    """The example of `/docs` is a request that works, by each of the task's names."""
    task = TASKS[ALIASES.get(name, name)]
    response = server.post(f"/v1/{name}", task.example.body, headers={"accept": "application/json"})
    assert response.status_code == 200, response.text
    assert server.fleet.jobs[-1].task == task.name
    assert response.content == task.assemble([_fragment(task.name)], is_list=False)


def _fragment(task: str) -> bytes:
    return orjson.dumps(ANSWERS[task])


def test_list_is_answered_by_a_list(server: LiveServer) -> None:
    """One answer per input, joined in order."""
    response = server.post("/v1/token-classification", {"inputs": ["a", "b"]})
    assert response.json() == [ANSWERS["token-classification"]] * 2
    assert server.fleet.jobs[-1].num_items == 2


def test_answer_says_where_the_time_went(server: LiveServer) -> None:
    """Times are in milliseconds, and the batch and model are named."""
    headers = server.post(CLASSIFY, TEXT).headers
    expected = {"x-queue-time": 1, "x-prepare-time": 2, "x-forward-time": 3, "x-finish-time": 4, "x-batch-size": 7}
    assert {name: float(headers[name]) for name in expected} == expected
    assert float(headers["x-total-time"]) > 0
    assert headers["x-model"] == "reviews"
    assert "server" not in headers


@pytest.mark.parametrize(
    ("path", "body", "model_id"),
    [
        (CLASSIFY, TEXT, "reviews"),
        (CLASSIFY, {**TEXT, "model": "acme/labels/large"}, "acme/labels/large"),
        (CLASSIFY, {**TEXT, "model": "rev"}, "reviews"),
        (CLASSIFY + "?model=acme/labels/large", TEXT, "acme/labels/large"),
        (CLASSIFY + "?model=rev", {**TEXT, "model": "reviews"}, "reviews"),
        (CLASSIFY + "/acme/labels/large", TEXT, "acme/labels/large"),
        (CLASSIFY + "/acme%2Flabels%2Flarge", TEXT, "acme/labels/large"),
        (CLASSIFY + "/", TEXT, "reviews"),
        ("/models/acme/labels/large", TEXT, "acme/labels/large"),
        ("/models/acme/labels/large/pipeline/sentiment-analysis", TEXT, "acme/labels/large"),
        ("/models/rev/", TEXT, "reviews"),
        *((CLASSIFY, {**TEXT, "model": name}, "reviews") for name in ("dummy", "tgi", "", None, "http://x/v1")),
    ],
)
def test_model_is_chosen(server: LiveServer, path: str, body: dict[str, Any], model_id: str) -> None:
    """By body, query or path; ids may hold slashes, and what clients send for want of a name means the default."""
    response = server.post(path, body)
    assert response.json() == [LABELS]
    assert server.fleet.jobs[-1].model_id == model_id


def test_longest_declared_id_wins(server: LiveServer) -> None:
    """`acme/labels/large` is an entry of its own, not something below `acme/labels`."""
    body = {"inputs": "a", "parameters": {"candidate_labels": ["x"]}}
    server.post("/models/acme/labels", body)
    server.post("/models/acme/labels/large/pipeline/zero-shot-classification", body)
    assert [job.model_id for job in server.fleet.jobs] == ["acme/labels", "acme/labels/large"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/nonsense", "feature-extraction"),
        (CLASSIFY + "/nobody", "nobody"),
        (CLASSIFY + "?model=ner", "ner"),
        ("/models/nobody/at/all", "nobody/at/all"),
        ("/models/reviews/pipeline/nonsense", "feature-extraction"),
        ("/models/reviews/nonsense", "pipeline"),
        ("/models/reviews/pipeline/fill-mask", "fill-mask"),
    ],
)
def test_what_is_not_served_is_404(server: LiveServer, path: str, says: str) -> None:
    """The sentence says what there is."""
    status, code, text = server.error_of(server.post(path, TEXT))
    assert (status, code) == (404, "not_found")
    assert says in text


def test_url_and_body_that_disagree_are_refused(server: LiveServer) -> None:
    """Neither of two different models is silently ignored."""
    status, code, text = server.error_of(
        server.post(CLASSIFY + "?model=reviews", {**TEXT, "model": "acme/labels/large"})
    )
    assert (status, code) == (422, "validation")
    assert "reviews" in text and "acme/labels/large" in text


def test_parameters_of_the_model_are_defaults(server: LiveServer) -> None:
    """`parameters:` of models.yaml reach the job unless the request says otherwise."""
    server.post("/v1/fill-mask", {"inputs": "a [MASK]"})
    server.post("/v1/fill-mask", {"inputs": "a [MASK]", "parameters": {"top_k": 1}})
    assert [job.parameters["top_k"] for job in server.fleet.jobs] == [3, 1]


@pytest.mark.parametrize(
    ("query", "in_body", "keep_alive_s"),
    [
        ("", {}, None),
        ("?keep_alive=5m", {}, 300),
        ("", {"keep_alive": -1}, -1),
        ("?keep_alive=1h", {"keep_alive": "0"}, 0),
    ],
)
def test_keep_alive_is_per_request(
    server: LiveServer, query: str, in_body: dict[str, Any], keep_alive_s: float | None
) -> None:
    """As a duration, in the query or in the body."""
    assert server.post(CLASSIFY + query, {**TEXT, **in_body}).status_code == 200
    assert server.fleet.jobs[-1].keep_alive_s == keep_alive_s


@pytest.mark.parametrize(("given", "deadline_s"), [("2", 2), ("500ms", 0.5), ("20s", 20), ("1h", 300)])
def test_request_timeout_shortens_the_deadline(server: LiveServer, given: str, deadline_s: float) -> None:
    """The header never lengthens what the model allows (300 s)."""
    server.post(CLASSIFY, TEXT, headers={"X-Request-Timeout": given})
    assert server.fleet.jobs[-1].deadline_s == deadline_s


@pytest.mark.parametrize(
    ("query", "headers", "in_body", "waits"),
    [
        ("", {}, {}, True),
        ("?wait=false", {}, {}, False),
        ("?wait=true", {"Prefer": "respond-async"}, {}, True),
        ("", {"Prefer": "respond-async"}, {}, False),
        ("", {"Prefer": "return=minimal, Respond-Async"}, {}, False),
        ("", {}, {"options": {"wait_for_model": False}}, False),
    ],
)
def test_caller_may_choose_not_to_wait(
    server: LiveServer, query: str, headers: dict[str, str], in_body: dict[str, Any], waits: bool
) -> None:
    """503 and `Retry-After` at once, instead of being held while the model loads."""
    response = server.post(CLASSIFY + query, {**TEXT, **in_body}, headers=headers)
    assert server.fleet.jobs[-1].wait_for_load is waits
    assert response.status_code == (200 if waits else 503)
    if not waits:
        assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("path", "headers", "says"),
    [
        (CLASSIFY + "?modle=reviews", {}, "modle"),
        (CLASSIFY + "?model=a&model=b", {}, "model"),
        (CLASSIFY + "?keep_alive=soon", {}, "keep_alive"),
        (CLASSIFY + "?wait=maybe", {}, "wait"),
        (CLASSIFY, {"X-Request-Timeout": "soon"}, "X-Request-Timeout"),
        (CLASSIFY, {"X-Request-Timeout": "0"}, "X-Request-Timeout"),
        (CLASSIFY, {"X-Request-Timeout": "-1"}, "X-Request-Timeout"),
    ],
)
def test_wrong_query_or_header_is_named(server: LiveServer, path: str, headers: dict[str, str], says: str) -> None:
    """A typo is not an answer from another model."""
    status, code, text = server.error_of(server.post(path, TEXT, headers=headers))
    assert (status, code) == (422, "validation")
    assert says in text
    assert not server.fleet.jobs


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b'{"inputs": "a"', "character 14"),
        (b'{"inputs": NaN}', "column 12"),
        (b'{"inputs": "\xff"}', "byte 12"),
        (b'{"inputs": "\\ud800"}', "JSON"),
        (b"inputs=a", "JSON"),
        (b'["a"]', "object"),
        (b'"a"', "object"),
    ],
)
def test_malformed_body_is_400_and_says_where(server: LiveServer, raw: bytes, says: str) -> None:
    """Broken JSON, text that is not UTF-8, NaN, and JSON that is no object."""
    status, code, text = server.error_of(server.post(CLASSIFY, content=raw))
    assert (status, code) == (400, "malformed")
    assert says in text


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "inputs"),
        ({"inputs": 3}, "inputs"),
        ({"inputs": ["a", ""]}, "inputs[1]"),
        ({"inputs": ["a"] * 3 + [5]}, "inputs"),
        ({"inputs": "a", "paramters": {}}, "paramters"),
        ({"inputs": "a", "parameters": {"top_k": -1}}, "parameters.top_k"),
        ({"inputs": "a", "keep_alive": "soon"}, "keep_alive"),
        ({"inputs": "a", "model": 3}, "model"),
    ],
)
def test_wrong_field_is_422_and_named(server: LiveServer, body: dict[str, Any], says: str) -> None:
    """The sentence names the parameter, and nothing reaches the fleet."""
    status, code, text = server.error_of(server.post(CLASSIFY, body))
    assert (status, code) == (422, "validation")
    assert says in text
    assert not server.fleet.jobs


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream", "image/png"],
)
def test_json_is_read_whatever_its_content_type(server: LiveServer, content_type: str) -> None:
    """curl and urllib call every body a form."""
    assert server.post(CLASSIFY, TEXT, headers={"content-type": content_type}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "raw"),
    [
        ({"content-type": "multipart/form-data; boundary=x"}, b'--x\r\n\r\n{"inputs": "a"}\r\n--x--\r\n'),
        ({"content-type": "image/png"}, b"\x89PNG"),
        ({"content-type": "application/octet-stream"}, b"\x00\x01"),
        ({"content-encoding": "gzip"}, b"\x1f\x8b"),
    ],
)
def test_media_and_encoded_bodies_are_415(server: LiveServer, headers: dict[str, str], raw: bytes) -> None:
    """Text tasks read no forms, media or compressed bodies, and say so."""
    status, code, _ = server.error_of(server.post(CLASSIFY, content=raw, headers=headers))
    assert (status, code) == (415, "unsupported_media")


def test_body_over_the_limit_is_413_with_both_numbers(server: LiveServer) -> None:
    """A declared length is refused before it is read; the connection stays usable."""
    raw = b" " * (MAX_BODY_BYTES + 1)
    status, code, text = server.error_of(server.post(CLASSIFY, content=raw))
    assert (status, code) == (413, "too_large")
    assert str(MAX_BODY_BYTES) in text and str(MAX_BODY_BYTES + 1) in text
    assert server.post(CLASSIFY, TEXT).status_code == 200


def test_chunked_body_over_the_limit_is_413(server: LiveServer) -> None:
    """Without a declared length the limit is held while reading."""
    chunks = (b" " * 10_000 for _ in range(MAX_BODY_BYTES // 10_000 + 1))
    status, code, _ = server.error_of(server.post(CLASSIFY, content=chunks))
    assert (status, code) == (413, "too_large")


def test_get_of_a_task_is_405(server: LiveServer) -> None:
    """With the method that the route takes, in words and in `Allow`."""
    response = server.get(CLASSIFY)
    status, code, text = server.error_of(response)
    assert (status, code) == (405, "method_not_allowed")
    assert response.headers["allow"] == "POST"
    assert "POST" in text


def test_client_that_leaves_cancels_its_job(server: LiveServer, wait_until: Callable[..., None]) -> None:
    """The connection's end reaches the fleet while it computes."""
    server.fleet.holds = True
    with server.connect() as connection:
        body = b'{"inputs": "a"}'
        connection.sendall(
            b"POST /v1/text-classification HTTP/1.1\r\nhost: x\r\nx-request-id: gone\r\ncontent-length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        wait_until(lambda: len(server.fleet.jobs) == 1)
        assert not server.fleet.cancelled
    wait_until(lambda: server.fleet.cancelled == ["gone"])


def test_client_that_leaves_within_its_body_costs_nothing(server: LiveServer) -> None:
    """No job, no error of the server."""
    with server.connect() as connection:
        connection.sendall(b"POST /v1/text-classification HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert server.post(CLASSIFY, TEXT).status_code == 200
    assert len(server.fleet.jobs) == 1


def test_model_whose_task_is_unknown_is_resolved_first(server: LiveServer) -> None:
    """`/models/<id>` of an entry without files on disk loads it to learn what it does."""
    server.fleet.specs["reviews"] = msgspec.structs.replace(server.fleet.specs["reviews"], tasks=())
    assert server.error_of(server.post("/models/reviews?wait=false", TEXT))[:2] == (503, "model_loading")
    assert server.post("/models/reviews", TEXT).json() == [LABELS]


def test_answers_of_one_connection_are_its_own(server: LiveServer) -> None:
    """Keep-alive: requests follow one another on a connection, errors in between included."""
    with httpx.Client(base_url=server.url) as client:
        statuses = [client.post(CLASSIFY, content=raw).status_code for raw in (b"{", b'{"inputs": "a"}', b"", b"{}")]
    assert statuses == [400, 200, 400, 422]
