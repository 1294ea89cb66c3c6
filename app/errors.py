"""Everything that can go wrong, as one tree.

PipeserveError
├── InvalidInput          validation      a field or parameter of the request is wrong
├── MalformedBody         malformed       the body is not what its dialect says (broken JSON, not UTF-8)
├── InputTooLarge         too_large       longer or bigger than a limit
├── UnsupportedMedia      unsupported_media   a body or media type nobody here reads
├── MethodNotAllowed      method_not_allowed
├── NotAvailable          not_available   this installation cannot do it (library or backend missing)
├── NotServed             not_found       no such model, task or route
├── Unauthorized          unauthorized    no key, or none that is valid
├── Forbidden             forbidden       the key, or a server without keys, does not allow it
├── Overloaded            overloaded      no permit left; retryable
│   └── RateLimited       rate_limited    the key's own limit; retryable
├── Unavailable           unavailable     cannot answer now; retryable
│   ├── ModelLoading      model_loading   the caller chose not to wait
│   ├── Draining          draining        the server is shutting down
│   └── ModelFailed       model_failed    the model cannot start; not retryable, says why
├── DeadlineExceeded      deadline_exceeded
├── Cancelled             cancelled       the client went away; nobody reads this answer
├── BackendFailed         backend         the model raised while computing
│   └── WorkerLost        worker_lost     this job ends its worker process even alone
├── OutOfMemory           out_of_memory   a load did not fit the device (evict and retry)
└── CatalogError          catalog         models.yaml is wrong; stops `serve`, fails `check`, a reload changes nothing

Domain errors know a `code` and whether they are `retryable`, not HTTP: the table class -> status lives in
`app/api/errors.py`. Errors cross the channel as `ErrorInfo` (see `app/channel/messages.py`).
"""

from __future__ import annotations

from typing import ClassVar

MAX_MESSAGE, MAX_PARAM = 2_000, 200
"""Characters: sentences repeat what clients wrote, and that may be as long as a body."""
_LEFT_OUT = " ... "


class PipeserveError(Exception):
    """Base of all errors that a client or operator may see; `str(error)` is a sentence for people."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.param = param if param is None else param[:MAX_PARAM]
        self.retry_after_s = retry_after_s

    @property
    def message(self) -> str:
        """Of a long one what is left are its beginning and its end, which say what is wrong."""
        text = str(self.args[0])
        if len(text) <= MAX_MESSAGE:
            return text
        half = (MAX_MESSAGE - len(_LEFT_OUT)) // 2
        return f"{text[:half]}{_LEFT_OUT}{text[-half:]}"


class InvalidInput(PipeserveError):
    code = "validation"


class MalformedBody(PipeserveError):
    code = "malformed"


class InputTooLarge(PipeserveError):
    code = "too_large"


class UnsupportedMedia(PipeserveError):
    code = "unsupported_media"


class MethodNotAllowed(PipeserveError):
    code = "method_not_allowed"


class NotAvailable(PipeserveError):
    code = "not_available"


class NotServed(PipeserveError):
    code = "not_found"


class Unauthorized(PipeserveError):
    code = "unauthorized"


class Forbidden(PipeserveError):
    code = "forbidden"


class Overloaded(PipeserveError):
    code = "overloaded"
    retryable = True


class RateLimited(Overloaded):
    code = "rate_limited"


class Unavailable(PipeserveError):
    code = "unavailable"
    retryable = True


class ModelLoading(Unavailable):
    code = "model_loading"


class Draining(Unavailable):
    code = "draining"


class ModelFailed(Unavailable):
    code = "model_failed"
    retryable = False


class DeadlineExceeded(PipeserveError):
    code = "deadline_exceeded"


class Cancelled(PipeserveError):
    code = "cancelled"


class BackendFailed(PipeserveError):
    code = "backend"


class WorkerLost(BackendFailed):
    code = "worker_lost"


class OutOfMemory(PipeserveError):
    code = "out_of_memory"


class CatalogError(PipeserveError):
    code = "catalog"


def _subclasses(base: type[PipeserveError]) -> list[type[PipeserveError]]:
    return [base, *(found for child in base.__subclasses__() for found in _subclasses(child))]


def error_classes() -> dict[str, type[PipeserveError]]:
    """Every error class by its code, the base included."""
    return {cls.code: cls for cls in _subclasses(PipeserveError)}
