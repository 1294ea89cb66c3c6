"""Which methods a path takes, though names of models hold slashes, so that a path may fit several routes."""

from __future__ import annotations

import pytest

from tests.api.conftest import LiveServer

LOAD, HEALTH = "/v1/models/acme/labels/load", "/models/acme/labels/health"
ONE_RESPONSE, INPUT_TOKENS = "/models/rev/v1/responses/x", "/models/rev/v1/responses/input_tokens"


def allowed(header: str) -> set[str]:
    """Without HEAD, which is not documented beside GET."""
    return {method.strip().lower() for method in header.split(",")} - {"head"}


def test_allow_names_all_methods_of_a_path(server: LiveServer) -> None:
    """Those that the document has of it, and in the sentence as well."""
    paths = server.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        asked = path.replace("{model_id}", "acme/labels").replace("{task}", "zero-shot-classification")
        answer = server.client.request("PATCH", asked.replace("{", "").replace("}", ""))
        assert answer.status_code == 405, path
        assert allowed(answer.headers["allow"]) == set(operations), path
        assert answer.headers["allow"] in answer.text


@pytest.mark.parametrize(
    ("method", "path", "methods"),
    [
        ("GET", LOAD, "POST"),
        ("GET", "/v1/models/nothing/unload", "POST"),
        ("POST", HEALTH, "GET"),
        ("POST", "/v1/models/acme/labels", "GET"),
        ("GET", "/v2/models/acme/labels/infer", "POST"),
        ("GET", "/v2/models/acme/labels/infer/", "POST"),
        ("POST", "/v2/models/acme/labels/ready", "GET, HEAD"),
        ("POST", ONE_RESPONSE, "DELETE, GET, HEAD"),
        ("POST", f"{ONE_RESPONSE}/input_items", "GET, HEAD"),
        ("GET", INPUT_TOKENS, "POST"),
        ("DELETE", "/v1/responses/input_tokens", "POST"),
    ],
)
def test_path_that_is_no_name_takes_another_method(server: LiveServer, method: str, path: str, methods: str) -> None:
    """405, where a name that ends so would be a name of nothing."""
    answer = server.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/acme/nothing"),
        ("POST", "/v1/models/acme/nothing/load"),
        ("POST", "/models/acme/labels/nothing"),
        ("GET", "/v2/models/acme/labels/nothing"),
        ("GET", "/v1/responses/resp_nothing"),
        ("POST", "/v1/text-classification/acme/nothing"),
        ("GET", "/nothing"),
    ],
)
def test_nothing_stays_404(server: LiveServer, method: str, path: str) -> None:
    """Where the method is one that the path takes, or nobody takes the path."""
    answer = server.client.request(method, path, json={"inputs": "a"})
    assert answer.status_code == 404
    assert "allow" not in answer.headers
