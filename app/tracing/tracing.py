"""The tracing of one server: what its requests' traces are made with, and the way out of the spans."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping

from opentelemetry import propagate  # noqa: F401  # raises here, not at the first request, for a wrong OTEL_PROPAGATORS
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from app import __version__
from app.tracing.outbox import SDK_LOGGERS, Outbox, SdkLog, close
from app.tracing.request import RequestTrace
from app.tracing.spans import Tools

CLOSE_S = 3.0
_NAME = "pipeserve"


def make_exporter(name: str) -> SpanExporter:
    """name: "otlp" or "console"."""
    return OTLPSpanExporter() if name == "otlp" else ConsoleSpanExporter()


class Tracing:
    """Owned by the event loop; a thread of its own sends the spans. It is not made the process's global provider:
    what libraries would trace by themselves is none of it."""

    def __init__(self, exporter: SpanExporter, where: str, *, is_failure: Callable[[str], bool]) -> None:
        """where: as of `Outbox`. is_failure: as of `Tools`."""
        self._outbox = Outbox(exporter, where)
        self._processor = BatchSpanProcessor(self._outbox)
        self._sdk_log = SdkLog()
        resource = _resource()
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        batches = TracerProvider(resource=resource, sampler=ALWAYS_ON, shutdown_on_exit=False)
        batches.add_span_processor(self._processor)
        self._tools = Tools(
            tracer=provider.get_tracer(_NAME, __version__),
            batches=batches.get_tracer(_NAME, __version__),
            is_failure=is_failure,
        )
        self._outbox.join_log()
        for name in SDK_LOGGERS:
            logging.getLogger(name).addFilter(self._sdk_log)

    def begin(
        self, *, method: str, path: str, scheme: str, headers: Mapping[bytes, bytes], began_at: float
    ) -> RequestTrace:
        """began_at: on `time.perf_counter`."""
        return RequestTrace(self._tools, method=method, path=path, scheme=scheme, headers=headers, began_at=began_at)

    async def close(self) -> None:
        """Send what there is, within `CLOSE_S`."""
        await asyncio.to_thread(close, self._processor, self._outbox, CLOSE_S)
        for name in SDK_LOGGERS:
            logging.getLogger(name).removeFilter(self._sdk_log)


def _resource() -> Resource:
    """What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say stands."""
    said = Resource.create().attributes
    own: dict[str, str] = {}
    if str(said.get(SERVICE_NAME, "")).partition(":")[0] in ("", "unknown_service"):
        own[SERVICE_NAME] = _NAME
    if SERVICE_VERSION not in said:
        own[SERVICE_VERSION] = __version__
    if SERVICE_INSTANCE_ID not in said:
        own[SERVICE_INSTANCE_ID] = str(uuid.uuid4())
    return Resource(dict(said)).merge(Resource(own))
