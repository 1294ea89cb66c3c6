"""What is written down of one request while it is answered, and the spans that are made of it when it is over.

The request's own span begins with it: its ids go into logs and to other servers. All else is made at the end, from
times that were noted on the way and from what workers told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanContext, SpanKind, set_span_in_context

from app.errors import Cancelled
from app.fleet.journal import NOBODYS, Journal
from app.tracing.job import JobTrace
from app.tracing.spans import Attributes, Scribe, Tools, fail

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"})
_OTHER_METHOD = "_OTHER"


class _HeadersGetter(Getter[Mapping[bytes, bytes]]):
    def get(self, carrier: Mapping[bytes, bytes], key: str) -> list[str] | None:
        value = carrier.get(key.lower().encode())
        return None if value is None else [value.decode("latin-1")]

    def keys(self, carrier: Mapping[bytes, bytes]) -> list[str]:
        return [name.decode("latin-1") for name in carrier]


_GETTER = _HeadersGetter()


class RequestTrace:
    """Owned by the event loop."""

    def __init__(
        self, tools: Tools, *, method: str, path: str, scheme: str, headers: Mapping[bytes, bytes], began_at: float
    ) -> None:
        """headers: names in lower case. began_at: on the tools' clock."""
        self.scribe = Scribe(tools)
        self.began_at = began_at
        self.answer_began_at: float | None = None
        self._method = method if method in _METHODS else _OTHER_METHOD
        self._jobs: list[JobTrace] = []
        self._span = tools.tracer.start_span(
            self._name(""),
            context=propagate.extract(headers, Context(), _GETTER),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": self._method, "url.path": path, "url.scheme": scheme},
            start_time=self.scribe.ns(began_at),
        )

    def _name(self, route: str) -> str:
        method = "HTTP" if self._method == _OTHER_METHOD else self._method
        return f"{method} {route}" if route else method

    @property
    def context(self) -> SpanContext:
        return self._span.get_span_context()

    @property
    def ids(self) -> dict[str, str]:
        """For the log."""
        context = self.context
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def journal(self, task: str, model: str, inputs: Sequence[object], parameters: Mapping[str, object]) -> Journal:
        """For one job of the request; nobody's where the request is not sampled."""
        if not self._span.is_recording():
            return NOBODYS
        job = JobTrace(self, task, model, inputs, parameters)
        self._jobs.append(job)
        return job

    def answer_begins(self) -> None:
        self.answer_began_at = self.scribe.clock()

    @contextmanager
    def fetching(self, url: str) -> Iterator[list[tuple[bytes, bytes]]]:
        """A file is fetched: the headers that tell the other server of this trace. Only the host stands in the span:
        what follows may be a secret."""
        if not self._span.is_recording():
            yield _headers(self._span)
            return
        place = urlsplit(url)
        attributes: Attributes = {"http.request.method": "GET", "server.address": place.hostname or ""}
        if place.port is not None:
            attributes["server.port"] = place.port
        span = self.scribe.tracer.start_span(
            "GET", context=set_span_in_context(self._span, Context()), kind=SpanKind.CLIENT, attributes=attributes
        )
        try:
            yield _headers(span)
        except BaseException as error:
            fail(span, type(error).__qualname__)
            raise
        finally:
            span.end()

    def end(self, *, route: str, status: int | None, code: str | None, attributes: Mapping[str, str]) -> None:
        """status: None where the client left before there was one. code: the error's, if it ended in one."""
        span, now = self._span, self.scribe.clock()
        if span.is_recording():
            for job in self._jobs:
                job.write(span, now)
            span.update_name(self._name(route))
            span.set_attributes(_told(http_route=route, attributes=attributes, status=status, code=code))
            if status is None or code == Cancelled.code:
                span.add_event("client left", timestamp=self.scribe.ns(now))
            if (status or 0) >= 500 or (code is not None and self.scribe.is_failure(code)):
                fail(span, code or str(status))
        span.end(self.scribe.ns(now))


def _told(*, http_route: str, attributes: Mapping[str, str], status: int | None, code: str | None) -> Attributes:
    told: Attributes = {name: value for name, value in attributes.items() if value}
    if http_route:
        told["http.route"] = http_route
    if status is not None:
        told["http.response.status_code"] = status
    if code is not None:
        told["pipeserve.code"] = code
    return told


def _headers(span: Span) -> list[tuple[bytes, bytes]]:
    """Of the trace alone: a client's baggage is not for others."""
    headers: dict[str, str] = {}
    propagate.inject(headers, set_span_in_context(span, Context()))
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
