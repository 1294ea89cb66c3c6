"""Errors over HTTP are those that the server raised."""

from __future__ import annotations

import httpx2
import pytest

from app.dataset.remote import error_of
from app.errors import BackendFailed, ModelFailed, NotServed, Overloaded, PipeserveError, Unavailable, WorkerLost


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "message", "retry_after_s"),
    [
        (429, {"retry-after": "3"}, '{"error": "full", "error_type": "overloaded"}', Overloaded, "full", 3.0),
        (500, {}, '{"error": "killed", "error_type": "worker_lost"}', WorkerLost, "killed", None),
        (500, {}, '{"error": "raised", "error_type": "generation"}', BackendFailed, "raised", None),
        (
            503,
            {"x-should-retry": "false"},
            '{"error": "no files", "error_type": "model_failed"}',
            ModelFailed,
            "no files",
            None,
        ),
        (404, {}, '{"error": {"message": "none", "code": "model_not_found"}}', NotServed, "none", None),
        (502, {"retry-after": "a date"}, "<html>", Unavailable, "The server answered 502.", None),
        (503, {"x-should-retry": "false"}, "", ModelFailed, "The server answered 503.", None),
    ],
)
def test_answers_that_are_errors(
    status: int,
    headers: dict[str, str],
    body: str,
    kind: type[PipeserveError],
    message: str,
    retry_after_s: float | None,
) -> None:
    """In our words, OpenAI's, or a proxy's."""
    error = error_of(httpx2.Response(status, headers=headers, text=body))
    assert (type(error), error.message, error.retry_after_s) == (kind, message, retry_after_s)
