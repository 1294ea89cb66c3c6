"""Errors over HTTP: one table from class to status, one presenter per dialect, the handlers that use them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app import errors
from app.api.record import record_of
from app.api.routing import methods_at
from app.errors import PipeserveError
from app.tasks.registry import TASKS


@dataclass(frozen=True, kw_only=True)
class Row:
    """How an error class is answered. The OpenAI dialect has its own words, and 400 for what the client got wrong.

    retry_after_s: the default of `Retry-After`; None: no such header unless the error says. should_retry: false is
    said in `x-should-retry`, which OpenAI's clients obey.
    """

    status: int
    openai_status: int
    openai_type: str
    openai_code: str | None
    retry_after_s: float | None = None
    should_retry: bool = True


def _client_error(status: int, *, openai_status: int | None = None, code: str | None = None) -> Row:
    return Row(
        status=status,
        openai_status=openai_status or status,
        openai_type="invalid_request_error",
        openai_code=code,
    )


def _server_error(status: int, code: str, *, retry_after_s: float | None = None, should_retry: bool = True) -> Row:
    return Row(
        status=status,
        openai_status=status,
        openai_type="server_error",
        openai_code=code,
        retry_after_s=retry_after_s,
        should_retry=should_retry,
    )


TABLE: Mapping[type[PipeserveError], Row] = {
    errors.PipeserveError: _server_error(500, "error", should_retry=False),
    errors.InvalidInput: _client_error(422, openai_status=400),
    errors.MalformedBody: _client_error(400),
    errors.InputTooLarge: _client_error(413, openai_status=400, code="context_length_exceeded"),
    errors.UnsupportedMedia: _client_error(415),
    errors.MethodNotAllowed: _client_error(405),
    errors.NotAvailable: _server_error(501, "not_available", should_retry=False),
    errors.NotServed: _client_error(404, code="model_not_found"),
    errors.Unauthorized: _client_error(401, code="invalid_api_key"),
    errors.Forbidden: _client_error(403, code="insufficient_permissions"),
    errors.Overloaded: Row(
        status=429, openai_status=429, openai_type="rate_limit_error", openai_code="overloaded", retry_after_s=1
    ),
    errors.RateLimited: Row(
        status=429,
        openai_status=429,
        openai_type="rate_limit_error",
        openai_code="rate_limit_exceeded",
        retry_after_s=1,
    ),
    errors.Unavailable: _server_error(503, "unavailable", retry_after_s=1),
    errors.ModelLoading: _server_error(503, "model_loading", retry_after_s=1),
    errors.Draining: _server_error(503, "draining", retry_after_s=5),
    errors.ModelFailed: _server_error(503, "model_failed", retry_after_s=30, should_retry=False),
    errors.DeadlineExceeded: _server_error(504, "deadline_exceeded"),
    errors.Cancelled: _client_error(499),
    errors.BackendFailed: _server_error(500, "backend", should_retry=False),
    errors.WorkerLost: _server_error(500, "worker_lost", should_retry=False),
    errors.OutOfMemory: _server_error(500, "out_of_memory", should_retry=False),
    errors.CatalogError: _client_error(409, code="catalog"),
}
"""A class without a row fails a test, not a request."""


def row_of(error: PipeserveError) -> Row:
    """A class that only adds details to one of `app/errors.py` is answered as that one."""
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def is_failure(code: str) -> bool:
    """Whether an error of this code is the server's, and not its client's."""
    return row_of(errors.error_classes()[code]("")).status >= 500


OPENAI_PREFIXES = (
    "/v1/audio/",
    "/v1/batches",
    "/v1/chat/",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/files",
    "/v1/images/",
    "/v1/load_lora_adapter",
    "/v1/models",
    "/v1/moderations",
    "/v1/responses",
    "/v1/unload_lora_adapter",
)
"""Paths of OpenAI's API and of vLLM's additions, whether served yet or not; every other path is answered in Hugging
Face's shape."""


_LIKE_OPENAI = ("/score", "/v1/score", "/classify", "/v1/classify")
"""vLLM's routes that no other server has: its errors have OpenAI's shape."""
_BELOW_MODELS = re.compile(
    r"/models/.+(/v1/(?:chat/completions|completions|embeddings|moderations|responses(?:/.*)?|messages(?:/.*)?"
    r"|audio/(?:transcriptions|translations|speech)|(?:un)?load_lora_adapter)"
    rf"|{'|'.join(_LIKE_OPENAI)})",
    re.DOTALL,  # a line's end that `.` did not match would have every place of a long path tried in vain
)


def _root_path(path: str) -> str:
    """That of the same route at the root, for what is also below a model's URL and has errors of its own."""
    found = _BELOW_MODELS.fullmatch(path)
    return path if found is None else found[1]


def speaks_openai(path: str) -> bool:
    path = _root_path(path)
    return path.startswith(OPENAI_PREFIXES) or path in _LIKE_OPENAI


def speaks_anthropic(path: str) -> bool:
    path = _root_path(path)
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def speaks_ollama(path: str) -> bool:
    return path.startswith("/api/")


OPEN_INFERENCE_PREFIXES = ("/v2/health/", "/v2/models/", "/v2/repository/")
"""Of the Open Inference Protocol; `/v2/rerank` is not of it."""


def speaks_open_inference(path: str) -> bool:
    return path == "/v2" or path.startswith(OPEN_INFERENCE_PREFIXES)


_HUGGING_FACE_CODES = {errors.RateLimited.code: errors.Overloaded.code}
"""Codes that its clients know, for those that they do not."""


def hugging_face_body(error: PipeserveError, message: str, *, task: str = "") -> dict[str, Any]:
    """task: that of the request; Hugging Face's clients know a failed generation by a name of its own."""
    failed_to_generate = task == "text-generation" and error.code == errors.BackendFailed.code
    code = "generation" if failed_to_generate else _HUGGING_FACE_CODES.get(error.code, error.code)
    return {"error": message, "error_type": code}


def openai_body(error: PipeserveError, message: str) -> dict[str, Any]:
    row = row_of(error)
    is_other = isinstance(error, errors.NotServed) and error.param not in (None, "model")  # a stored response, say
    code = None if is_other else row.openai_code
    return {"error": {"message": message, "type": row.openai_type, "param": error.param, "code": code}}


ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status. Of the rest, the client's mistakes are `invalid_request_error`, the server's `api_error`."""


def anthropic_body(error: PipeserveError, message: str, *, request_id: str) -> dict[str, Any]:
    status = row_of(error).openai_status
    kind = ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def present(error: PipeserveError, *, path: str, request_id: str, task: str = "") -> dict[str, Any]:
    """The body of an error in the dialect of the path. Failures of the server carry the request id, to be looked up."""
    row = row_of(error)
    message = f"{error.message} (request id {request_id})" if row.status == 500 else error.message
    if speaks_open_inference(path) or speaks_ollama(path):
        return {"error": message}
    if speaks_anthropic(path):
        return anthropic_body(error, error.message, request_id=request_id)
    return openai_body(error, message) if speaks_openai(path) else hugging_face_body(error, message, task=task)


def status_of(error: PipeserveError, *, path: str) -> int:
    row = row_of(error)
    is_openai_like = speaks_openai(path) or speaks_anthropic(path) or speaks_ollama(path)
    return row.openai_status if is_openai_like else row.status


def error_headers(error: PipeserveError) -> dict[str, str]:
    row = row_of(error)
    headers = {}
    retry_after_s = error.retry_after_s if error.retry_after_s is not None else row.retry_after_s
    if retry_after_s is not None and math.isfinite(retry_after_s):
        headers["retry-after"] = str(max(1, math.ceil(retry_after_s)))
    if not row.should_retry:
        headers["x-should-retry"] = "false"
    return headers


def error_response(error: PipeserveError, *, path: str, request_id: str, task: str = "") -> Response:
    of_anthropic = {"request-id": request_id} if speaks_anthropic(path) else {}
    return Response(
        orjson.dumps(present(error, path=path, request_id=request_id, task=task)),
        status_code=status_of(error, path=path),
        headers={**error_headers(error), **of_anthropic},
        media_type="application/json",
    )


def answer_pipeserve_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PipeserveError)
    if isinstance(error, errors.NotServed):
        methods = methods_at(request.app.routes, request.scope)
        if methods and request.method not in methods:  # it was read as a name, which is none: `GET /v1/models/a/load`
            return _answer_other_method(request, methods)
    record = record_of(request.scope)
    record.code = error.code
    return error_response(error, path=request.scope["path"], request_id=record.request_id, task=record.task)


def answer_http_exception(request: Request, error: Exception) -> Response:
    """starlette's own: no such route, no such method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:  # whose `Allow` is that of one of the path's routes
        return _answer_other_method(request, methods_at(request.app.routes, request.scope))
    response = answer_pipeserve_error(request, _as_pipeserve_error(request, error))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _answer_other_method(request: Request, methods: Sequence[str]) -> Response:
    """methods: what the path takes; none are known of what is mounted."""
    allowed, path = ", ".join(methods), request.scope["path"]
    sentence = f'"{path}" takes {allowed or "another method"}, not {request.method}.'
    response = answer_pipeserve_error(request, errors.MethodNotAllowed(sentence))
    if allowed:
        response.headers["allow"] = allowed
    return response


def _as_pipeserve_error(request: Request, error: HTTPException) -> PipeserveError:
    method, path = request.method, request.scope["path"]
    if error.status_code == 404:
        return errors.NotServed(_nothing_here(method, path))
    if error.status_code == 413:
        return errors.InputTooLarge("The body is larger than this server takes.")
    if error.status_code < 500:
        return errors.MalformedBody(str(error.detail))
    return errors.PipeserveError("The server failed on this request.")


def _nothing_here(method: str, path: str) -> str:
    text = f'Nothing is served at {method} "{path}"; /openapi.json lists what is.'
    return f"{text} The tasks under /v1/ are {', '.join(TASKS)}." if path.startswith("/v1/") else text


def answer_validation_error(request: Request, error: Exception) -> Response:
    """FastAPI's, for parameters of a path or query. Its `detail` never leaves the server."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return answer_pipeserve_error(request, errors.InvalidInput(f"{param}: {first['msg']}.", param=param))


def exception_handlers() -> dict[type[Exception], Callable[[Request, Exception], Any]]:
    """For the app's exception middleware. What is none of these is a bug, answered by `RequestMiddleware`."""

    async def pipeserve_error(request: Request, error: Exception) -> Response:
        return answer_pipeserve_error(request, error)

    async def http_exception(request: Request, error: Exception) -> Response:
        return answer_http_exception(request, error)

    async def validation_error(request: Request, error: Exception) -> Response:
        return answer_validation_error(request, error)

    return {
        PipeserveError: pipeserve_error,
        HTTPException: http_exception,
        RequestValidationError: validation_error,
    }
