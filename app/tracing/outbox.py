"""Spans on their way to a collector, which may be down: said in a sentence now and then, and nothing waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

PAUSE_S = 5.0
"""After a failure nothing is tried for so long, and what comes meanwhile is dropped: the exporter itself has tried for
up to ten seconds (OTEL_EXPORTER_OTLP_TIMEOUT), and its queue must not stay full."""
TELL_EVERY_S = 60.0
_MAX_REASON_CHARS = 300

_EXPORTERS = "opentelemetry.exporter"
_SDK = "opentelemetry.sdk"

logger = logging.getLogger(__name__)


class Outbox(SpanExporter):
    """Used by the exporting thread alone, but for `shutdown`. where: the collector's address, for the log."""

    def __init__(self, exporter: SpanExporter, where: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._exporter = exporter
        self._where = where
        self._clock = clock
        self._closed_until: float | None = None
        self._told_at: float | None = None
        self._num_lost = 0
        self._is_shut = False
        self._words = _LastWords()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._closed_until is not None and self._clock() < self._closed_until:
            self._num_lost += len(spans)
            return SpanExportResult.FAILURE
        self._words.text = ""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # a thread's boundary: whatever it is, serving goes on
            result, self._words.text = SpanExportResult.FAILURE, str(error)
        if result is SpanExportResult.SUCCESS:
            self._sent()
        else:
            self._failed(len(spans))
        return result

    def _sent(self) -> None:
        if self._num_lost:
            logger.info("spans reach %s again; %d were dropped", self._where, self._num_lost)
        self._closed_until, self._told_at, self._num_lost = None, None, 0

    def _failed(self, num_spans: int) -> None:
        now = self._clock()
        self._closed_until = now + PAUSE_S
        self._num_lost += num_spans
        if self._told_at is None or now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            reason = self._words.text or "it did not take them"
            logger.warning(
                "no traces: %d spans could not be sent to %s (%s); they are dropped until it answers, serving goes on",
                self._num_lost,
                self._where,
                reason,
            )

    def shutdown(self) -> None:
        """Also called by the thread that closes, when the exporting one is in the midst of an attempt: that ends."""
        if not self._is_shut:
            self._is_shut = True
            self._exporter.shutdown()

    def join_log(self) -> None:
        """What the exporter says is heard here alone."""
        exporters = logging.getLogger(_EXPORTERS)
        exporters.addHandler(self._words)
        exporters.propagate = False

    def leave_log(self) -> None:
        """The exporter says nothing more."""
        exporters = logging.getLogger(_EXPORTERS)
        exporters.removeHandler(self._words)
        exporters.propagate = True

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _LastWords(logging.Handler):
    """What the exporter would log at each of its attempts: the reason for the one sentence of ours."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        if not self.text:  # the first attempt says why; the last, that it was the last
            self.text = _reason(record.getMessage())


def _reason(message: str) -> str:
    """The innermost of nested reasons: `... (Caused by NewConnectionError("...: [Errno 111] Connection refused"))`."""
    _, is_nested, cause = message.partition("Caused by ")
    if is_nested:
        message = cause.partition(" encountered while ")[0].rstrip("\"')").rpartition(": ")[2]
    return " ".join(message.split())[:_MAX_REASON_CHARS]


class SdkLog(logging.Filter):
    """Each complaint of the SDK ("Queue full, dropping Span.") once a minute, without a traceback."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, kind = self._clock(), str(record.msg)
        if now - self._told_at.get(kind, -TELL_EVERY_S) < TELL_EVERY_S:
            return False
        self._told_at[kind] = now
        record.exc_info = None
        return True


SDK_LOGGERS = (f"{_SDK}._shared_internal", f"{_SDK}.trace.export", f"{_SDK}.trace")
"""A filter holds for its own logger only, not for those below it."""


def close(processor: BatchSpanProcessor, exporter: Outbox, timeout_s: float) -> None:
    """Send what there is, for no longer than this: a collector that is down holds up no stop. Blocks."""
    closing = threading.Thread(target=processor.shutdown, name="last spans", daemon=True)
    closing.start()
    closing.join(timeout_s)
    if closing.is_alive():
        exporter.shutdown()
    else:
        exporter.leave_log()
