"""What is known of one HTTP request, gathered while it is answered, for its log line, metrics and headers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from app.access.keys import ADMIN
from app.api.access.caller import Caller
from app.errors import Forbidden
from app.fleet.requests import JobResult, ModelsAPI

if TYPE_CHECKING:
    from app.tracing.request import RequestTrace

MAX_ID_LENGTH = 128
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9._:=;/+@-]")


@dataclass(slots=True, kw_only=True)
class RequestRecord:
    """route: the form of the path, never the path itself. model: the entry's id once it is found."""

    request_id: str
    headers: Mapping[bytes, bytes] = field(repr=False)  # names in lower case; there are secrets in them
    began_at: float  # of the clock that the middleware was given
    caller: Caller
    is_inside: bool = False  # of a batch: nobody comes back for what is kept in memory of it
    route: str = ""
    task: str = ""
    model: str = ""
    adapter: str | None = None  # of the model
    num_body_bytes: int = 0
    status: int = 0
    code: str | None = None
    result: JobResult | None = None
    rate_limits: Callable[[], list[tuple[bytes, bytes]]] | None = None  # headers, of a caller that has limits
    is_admin: bool = False  # it is for who administers the server
    trace: RequestTrace | None = None  # where requests are traced

    @property
    def ids(self) -> dict[str, object]:
        """For the log."""
        return {"request_id": self.request_id, **({} if self.trace is None else self.trace.ids)}

    @property
    def fleet(self) -> ModelsAPI:
        """As the caller may see and use it."""
        return self.caller.fleet

    def demand_admin(self) -> None:
        """What follows is told in the audit log, a refusal too. Raises Forbidden."""
        self.is_admin = True
        self.caller.demand(ADMIN)
        if not self.caller.name and _is_from_another_site(self.headers):
            raise Forbidden("A page of another site may not load or unload models here: it shows no API key.")


def _is_from_another_site(headers: Mapping[bytes, bytes]) -> bool:
    """A browser says where the page is from that makes it ask; it would ask this machine's own address, too."""
    _, _, site = headers.get(b"origin", b"").partition(b"//")
    return b"origin" in headers and site != headers.get(b"host", b"")


def record_of(scope: Scope) -> RequestRecord:
    """Set by `RequestMiddleware` before anything else sees the request."""
    record: RequestRecord = scope["state"]["record"]
    return record


def request_id_from(headers: Mapping[bytes, bytes]) -> str:
    """The client's `X-Request-Id`, else its `X-Amzn-Trace-Id` (huggingface_hub sends one), else a new one."""
    for name in (b"x-request-id", b"x-amzn-trace-id"):
        given = headers.get(name)
        if given and (request_id := _sanitised(given)):
            return request_id
    return uuid.uuid4().hex


def _sanitised(given: bytes) -> str:
    return _NOT_IN_AN_ID.sub("", given[:MAX_ID_LENGTH].decode("latin-1"))


def timings_of(result: JobResult) -> dict[str, float]:
    """Milliseconds, for the log. queue_ms: all waiting, that for a load included."""
    timings = result.timings
    seconds: dict[str, Any] = {
        "load_ms": result.load_wait_s,
        "queue_ms": timings.queue_s,
        "prepare_ms": timings.prepare_s,
        "forward_ms": timings.forward_s,
        "finish_ms": timings.finish_s,
    }
    return {name: round(value * 1000, 3) for name, value in seconds.items()}
