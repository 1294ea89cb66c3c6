"""Spans written when what they tell is over, with the times at which it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, StatusCode, Tracer, set_span_in_context

Attributes = dict[str, bool | int | float | str | list[str]]
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """batches: a tracer whose spans are always recorded: only batches of recorded requests have one. is_failure:
    whether an error of this code is the server's. clock: `time.perf_counter`, which workers share."""

    tracer: Tracer
    batches: Tracer
    is_failure: Callable[[str], bool]
    clock: Clock = time.perf_counter


class Scribe:
    """Writes the spans of one request. Times are seconds of the clock; in spans they are unix nanoseconds."""

    def __init__(self, tools: Tools) -> None:
        self.clock = tools.clock
        self.is_failure = tools.is_failure
        self.tracer = tools.tracer
        self._batches = tools.batches
        self._zero_ns = time.time_ns() - int(tools.clock() * 1e9)

    def ns(self, seconds: float) -> int:
        return self._zero_ns + int(seconds * 1e9)

    def write(
        self,
        parent: Span,
        name: str,
        began_at: float,
        ended_at: float,
        attributes: Attributes | None = None,
        *,
        links: Sequence[Link] = (),
        error_type: str | None = None,
        reason: str | None = None,
    ) -> None:
        span = self.begin(parent, name, began_at, attributes, links=links)
        if error_type is not None:
            fail(span, error_type, reason)
        span.end(self.ns(max(began_at, ended_at)))

    def begin(
        self,
        parent: Span,
        name: str,
        began_at: float,
        attributes: Mapping[str, bool | int | float | str | list[str]] | None = None,
        *,
        links: Sequence[Link] = (),
    ) -> Span:
        return self.tracer.start_span(
            name,
            context=set_span_in_context(parent, Context()),
            attributes=attributes,
            links=links,
            start_time=self.ns(began_at),
        )

    def write_batch(
        self,
        name: str,
        began_at: float,
        ended_at: float,
        attributes: Attributes,
        *,
        requests: Sequence[SpanContext],
        error_type: str | None,
    ) -> SpanContext:
        """In a trace of its own, with a link to each request: a batch is no request's child."""
        span = self._batches.start_span(
            name,
            context=Context(),
            attributes=attributes,
            links=[Link(request) for request in requests],
            start_time=self.ns(began_at),
        )
        if error_type is not None:
            fail(span, error_type)
        span.end(self.ns(ended_at))
        return span.get_span_context()


def fail(span: Span, error_type: str, reason: str | None = None) -> None:
    span.set_status(StatusCode.ERROR, reason)
    span.set_attribute("error.type", error_type)
