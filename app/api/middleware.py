"""The outermost layer of every request: its id, its metrics, its log line, and the last resort for bugs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.access.caller import Caller
from app.api.errors import error_response
from app.api.record import RequestRecord, request_id_from, timings_of
from app.errors import PipeserveError
from app.logs import ACCESS_LOGGER, AUDIT_LOGGER
from app.telemetry import Telemetry

if TYPE_CHECKING:
    from app.tracing.tracing import Tracing

QUIET_ROUTES = frozenset({"/livez", "/readyz", "/health", "/ping", "/metrics"})
"""Asked every few seconds by machines: logged at DEBUG, and not traced."""

CLIENT_HAD_LEFT = 499

logger = logging.getLogger(__name__)
access_logger = logging.getLogger(ACCESS_LOGGER)
audit_logger = logging.getLogger(AUDIT_LOGGER)

_NO_SNIFF = (b"x-content-type-options", b"nosniff")
"""What an answer is stands in its Content-Type, whatever its bytes look like to a browser."""


class RequestMiddleware:
    """Pure ASGI. While the server drains every answer ends its connection.

    caller: who asks, until a key says who it is. is_inside: it is the server itself that asks, for them. clock:
    `time.perf_counter`, for traces too.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        caller: Caller,
        telemetry: Telemetry,
        clock: Callable[[], float],
        tracing: Tracing | None = None,
        is_inside: bool = False,
    ) -> None:
        self._app = app
        self._telemetry = telemetry
        self._tracing = tracing
        self._caller = caller
        self._clock = clock
        self._is_inside = is_inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        record = RequestRecord(
            request_id=request_id_from(headers),
            headers=headers,
            began_at=self._clock(),
            caller=self._caller,
            is_inside=self._is_inside,
        )
        scope.setdefault("state", {})["record"] = record
        if self._tracing is not None and scope["path"] not in QUIET_ROUTES:
            record.trace = self._tracing.begin(
                method=scope["method"],
                path=_path(scope),
                scheme=scope["scheme"],
                headers=headers,
                began_at=record.began_at,
            )
        fleet = self._caller.fleet

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                if record.trace is not None:
                    record.trace.answer_begins()
                message["headers"] = [*message["headers"], _NO_SNIFF, (b"x-request-id", record.request_id.encode())]
                if record.rate_limits is not None:
                    message["headers"] += record.rate_limits()
                if not fleet.is_accepting:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        self._telemetry.request_began()
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:  # the boundary of a request's task: a bug is logged once and answered
            await self._answer_bug(record, scope, receive, send_with_id)
        finally:
            self._ended(scope, record)

    async def _answer_bug(self, record: RequestRecord, scope: Scope, receive: Receive, send: Send) -> None:
        """An answer that has begun cannot become another: uvicorn then closes the connection."""
        record.code = PipeserveError.code
        logger.exception("A request failed. This is a bug.", extra={"fields": record.ids})
        if record.status == 0:
            error = PipeserveError("The server failed on this request; its log has the details.")
            await error_response(error, path=scope["path"], request_id=record.request_id)(scope, receive, send)

    def _ended(self, scope: Scope, record: RequestRecord) -> None:
        seconds = self._clock() - record.began_at
        status = record.status or CLIENT_HAD_LEFT
        route = record.route or getattr(scope.get("route"), "path", "")
        self._telemetry.request_ended(
            route=route, task=record.task, model=record.model, status=status, code=record.code, seconds=seconds
        )
        if record.is_admin:
            audit_logger.info("%s %s %d", scope["method"], _path(scope), status, extra=_audited(record, scope))
        level = logging.DEBUG if route in QUIET_ROUTES else logging.INFO
        if access_logger.isEnabledFor(level):
            what = {"method": scope["method"], "path": _path(scope), "status": status}
            access_logger.log(
                level, "%s %s %d", *what.values(), extra={"fields": _fields(record, seconds), "what": what}
            )
        if record.trace is not None:
            record.trace.end(
                route=route, status=record.status or None, code=record.code, attributes=_attributes(record)
            )


def _path(scope: Scope) -> str:
    """As it was sent, without the query: what a client puts there may be a secret."""
    raw: bytes = scope.get("raw_path") or b""
    return raw.decode("latin-1")


def _fields(record: RequestRecord, seconds: float) -> dict[str, object]:
    fields: dict[str, object] = {**record.ids, "total_ms": round(seconds * 1000, 3)}
    told = {"key": record.caller.name, "task": record.task, "model": record.model, "code": record.code}
    fields |= {name: value for name, value in told.items() if value}
    if (result := record.result) is not None:
        fields |= timings_of(result)
        fields |= {"batch_size": result.batch_size, "tokens": result.num_tokens}
        if result.num_generated:
            fields["generated"] = result.num_generated
    return fields


def _attributes(record: RequestRecord) -> dict[str, str]:
    """Of the request's span; what is empty has no part in it."""
    return {
        "pipeserve.request_id": record.request_id,
        "pipeserve.task": record.task,
        "pipeserve.model": record.model,
        "pipeserve.key": record.caller.name,
    }


def _audited(record: RequestRecord, scope: Scope) -> dict[str, object]:
    """Who did it from where, to what, and what came of it where the status does not say."""
    client = scope.get("client")
    fields: dict[str, object] = {
        "key": record.caller.name or "none",
        "from": client[0] if client else "unknown",
        **record.ids,
    }
    told = {"model": record.model, "adapter": record.adapter, "code": record.code}
    return {"fields": fields | {name: value for name, value in told.items() if value}}
