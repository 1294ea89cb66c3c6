"""A collector on loopback: takes OTLP over HTTP as a real one does, and keeps the spans."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.server import wait_until


@dataclass(frozen=True)
class ReceivedSpan:
    """Ids in hexadecimal, times in unix nanoseconds. links: the traces and spans that it names."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began_at: int
    ended_at: int
    attributes: dict[str, Any]
    events: dict[str, dict[str, Any]]
    links: list[tuple[str, str]]
    is_error: bool
    reason: str
    resource: dict[str, Any]


class Collector:
    """Started when it is made; answers `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: list[dict[str, str]] = []
        self.spans: list[ReceivedSpan] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def variables(self) -> dict[str, str]:
        """Of a program that is to send its traces here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces" and collector.status == 200:
                    collector.headers.append(dict(self.headers))
                    collector.spans += read_spans(body)
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None: ...

        return Handler

    def find(self, name: str, is_it: Callable[[ReceivedSpan], bool] = lambda span: True) -> list[ReceivedSpan]:
        return [span for span in list(self.spans) if span.name == name and is_it(span)]

    def one(self, name: str, is_it: Callable[[ReceivedSpan], bool] = lambda span: True) -> ReceivedSpan:
        """The only such span, once it is there."""
        wait_until(lambda: bool(self.find(name, is_it)), what=f'a span "{name}"')
        (found,) = self.find(name, is_it)
        return found

    def below(self, parent: ReceivedSpan) -> list[ReceivedSpan]:
        """Its children in the order of their beginnings; they were sent no later than it."""
        children = [span for span in list(self.spans) if span.parent_id == parent.span_id]
        return sorted(children, key=lambda span: span.began_at)

    def __enter__(self) -> Collector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def read_spans(body: bytes) -> list[ReceivedSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _read(span, dict(_attributes(resource.resource.attributes)))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _read(span: trace_pb2.Span, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began_at=span.start_time_unix_nano,
        ended_at=span.end_time_unix_nano,
        attributes=dict(_attributes(span.attributes)),
        events={event.name: dict(_attributes(event.attributes)) for event in span.events},
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        is_error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        reason=span.status.message,
        resource=resource,
    )


def _attributes(attributes: Any) -> list[tuple[str, Any]]:
    return [(one.key, _value(one.value)) for one in attributes]


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return None if kind is None else getattr(value, kind)
