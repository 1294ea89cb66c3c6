"""Errors over HTTP: every class has its row, every answer has its dialect's shape."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from app import errors
from app.api.errors import TABLE, error_headers, present, status_of
from app.errors import PipeserveError
from app.telemetry import STATUSES
from tests.api.conftest import LiveServer

TEXT = {"inputs": "a text"}
CLASSIFY = "/v1/text-classification"
OPENAI_PATH = "/v1/models/x"

CONTRACT = {
    errors.InvalidInput: (422, 400),
    errors.MalformedBody: (400, 400),
    errors.UnsupportedMedia: (415, 415),
    errors.MethodNotAllowed: (405, 405),
    errors.NotAvailable: (501, 501),
    errors.NotServed: (404, 404),
    errors.InputTooLarge: (413, 400),
    errors.Unauthorized: (401, 401),
    errors.Forbidden: (403, 403),
    errors.Overloaded: (429, 429),
    errors.RateLimited: (429, 429),
    errors.ModelLoading: (503, 503),
    errors.Draining: (503, 503),
    errors.ModelFailed: (503, 503),
    errors.DeadlineExceeded: (504, 504),
    errors.BackendFailed: (500, 500),
    errors.WorkerLost: (500, 500),
}
"""The table of style.md: Hugging Face's dialect, OpenAI's."""


def subclasses(base: type[PipeserveError]) -> list[type[PipeserveError]]:
    return [base, *(found for child in base.__subclasses__() for found in subclasses(child))]


def test_every_error_has_a_row() -> None:
    """A new class without a status fails here, not at a client; only one that keeps its base's code needs none."""
    for cls in subclasses(PipeserveError):
        assert cls in TABLE or cls.code == cls.__mro__[1].code, cls  # type: ignore[attr-defined]
    assert {row.status for row in TABLE.values()} <= set(STATUSES)


def test_class_that_adds_details_is_answered_as_its_base() -> None:
    """Such as the fleet's own kinds of `Overloaded`."""

    class QueueOfSomeoneFull(errors.Overloaded):
        pass

    error = QueueOfSomeoneFull("full", retry_after_s=2)
    assert status_of(error, path=CLASSIFY) == 429
    assert error_headers(error)["retry-after"] == "2"


@pytest.mark.parametrize("cls", CONTRACT)
def test_statuses_are_those_of_the_contract(cls: type[PipeserveError]) -> None:
    """In both dialects."""
    error = cls("a sentence")
    assert (status_of(error, path=CLASSIFY), status_of(error, path=OPENAI_PATH)) == CONTRACT[cls]


@pytest.mark.parametrize("cls", TABLE)
def test_shapes_are_the_dialects(cls: type[PipeserveError]) -> None:
    """Hugging Face's two strings; OpenAI's object of four."""
    error = cls("a sentence", param="inputs[3]")
    flat = present(error, path=CLASSIFY, request_id="r1")
    assert flat["error_type"] == ("overloaded" if cls is errors.RateLimited else cls.code)  # that its clients know
    assert flat["error"].startswith("a sentence")
    nested = present(error, path=OPENAI_PATH, request_id="r1")
    assert set(nested) == {"error"}
    assert set(nested["error"]) == {"message", "type", "param", "code"}
    assert nested["error"]["param"] == "inputs[3]"


def test_openai_codes_are_those_that_its_clients_know() -> None:
    """Clients branch on these two."""
    codes = {cls: present(cls("x"), path=OPENAI_PATH, request_id="r")["error"]["code"] for cls in TABLE}
    assert codes[errors.NotServed] == "model_not_found"
    assert codes[errors.InputTooLarge] == "context_length_exceeded"


@pytest.mark.parametrize("cls", [errors.Overloaded, errors.RateLimited, errors.ModelLoading, errors.Draining])
def test_what_may_be_tried_again_says_when(cls: type[PipeserveError]) -> None:
    """`Retry-After` in whole seconds, at least one, from the error where it knows."""
    assert int(error_headers(cls("x"))["retry-after"]) >= 1
    assert error_headers(cls("x", retry_after_s=0.2))["retry-after"] == "1"
    assert error_headers(cls("x", retry_after_s=7.1))["retry-after"] == "8"
    assert "x-should-retry" not in error_headers(cls("x"))


@pytest.mark.parametrize("cls", [errors.ModelFailed, errors.BackendFailed, errors.WorkerLost])
def test_what_will_fail_again_says_so(cls: type[PipeserveError]) -> None:
    """OpenAI's clients obey `x-should-retry`."""
    assert error_headers(cls("x"))["x-should-retry"] == "false"


def test_errors_of_the_fleet_reach_the_client(server: LiveServer) -> None:
    """Status, headers and sentence as the table says."""
    server.fleet.error = errors.Overloaded("The queue is full.", retry_after_s=3)
    response = server.post(CLASSIFY, TEXT)
    assert server.error_of(response) == (429, "overloaded", "The queue is full.")
    assert response.headers["retry-after"] == "3"


def test_failure_of_the_model_carries_the_request_id(server: LiveServer) -> None:
    """It is what finds the traceback in the log."""
    server.fleet.error = errors.BackendFailed("the model failed")
    response = server.post(CLASSIFY, TEXT, headers={"x-request-id": "find-me"})
    assert server.error_of(response) == (500, "backend", "the model failed (request id find-me)")
    assert response.headers["x-should-retry"] == "false"


def test_bug_is_logged_once_and_keeps_its_secret(server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception: 500 with the request id, the traceback once in the log, none of it in the answer."""
    server.fleet.error = ZeroDivisionError("a secret")
    with caplog.at_level(logging.INFO):
        response = server.post(CLASSIFY, TEXT, headers={"x-request-id": "bug-1"})
    status, code, text = server.error_of(response)
    assert (status, code) == (500, "error")
    assert "bug-1" in text and "secret" not in text
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 1
    assert server.post(CLASSIFY, TEXT).status_code == 200


@pytest.mark.parametrize(
    ("given", "comes_back"),
    [
        ({"x-request-id": "abc-123"}, "abc-123"),
        ({"x-amzn-trace-id": "Root=1-abc;Sampled=1"}, "Root=1-abc;Sampled=1"),
        ({"x-request-id": "mine", "x-amzn-trace-id": "theirs"}, "mine"),
        ({"x-request-id": 'a b"\tc<d>'}, "abcd"),
        ({"x-request-id": "y" * 500}, "y" * 128),
    ],
)
def test_request_id_comes_back(server: LiveServer, given: dict[str, str], comes_back: str) -> None:
    """The client's own, without what could forge a log line."""
    for response in (server.post(CLASSIFY, TEXT, headers=given), server.get("/nowhere", headers=given)):
        assert response.headers["x-request-id"] == comes_back
    assert server.fleet.jobs[0].request_id == comes_back


def test_request_without_an_id_gets_one(server: LiveServer) -> None:
    """A new one each time."""
    ids = {server.get("/livez").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/nowhere", 404), ("PUT", CLASSIFY, 405), ("POST", "/livez", 405)],
)
def test_routing_errors_have_our_shape(server: LiveServer, method: str, path: str, status: int) -> None:
    """FastAPI's `detail` never leaves the server."""
    assert server.error_of(server.client.request(method, path))[0] == status


def test_pictures_of_texts_are_not_available(server: LiveServer) -> None:
    """501 in OpenAI's shape, which its SDK does not try again."""
    for name in ("generations", "edits", "variations"):
        response = server.post(f"/v1/images/{name}", {"prompt": "a cat"})
        assert response.status_code == 501 and response.json()["error"]["code"] == "not_available"
        assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", OPENAI_PATH, 404), ("DELETE", "/v1/models", 405), ("POST", "/v1/chat/completions", 400)],
)
def test_routes_of_openai_have_its_shape(server: LiveServer, method: str, path: str, status: int) -> None:
    """Also for what is not there."""
    response = server.client.request(method, path)
    body: dict[str, Any] = response.json()
    assert response.status_code == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
