"""The way out of spans: a collector that is down is a sentence now and then, and holds up nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from app.tracing.outbox import PAUSE_S, TELL_EVERY_S, Outbox, SdkLog, close

OK, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
SPANS: Sequence[ReadableSpan] = [ReadableSpan("one"), ReadableSpan("two")]


class ScriptedExporter(SpanExporter):
    """says: what it logs before it answers `result`. error: what it raises instead. hangs: until it is shut down."""

    def __init__(self) -> None:
        self.result = OK
        self.says: list[str] = []
        self.error: Exception | None = None
        self.hangs = False
        self.num_exports = 0
        self.is_shut = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.num_exports += 1
        for text in self.says:
            logging.getLogger("opentelemetry.exporter.otlp.some.version").warning(text)
        if self.hangs:
            self.is_shut.wait(20)
        if self.error is not None:
            raise self.error
        return self.result

    def shutdown(self) -> None:
        self.is_shut.set()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """pytest also gets what goes no further than to the exporter's logger."""
    return [record.getMessage() for record in caplog.records if record.name == "app.tracing.outbox"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exporter() -> ScriptedExporter:
    return ScriptedExporter()


@pytest.fixture
def outbox(exporter: ScriptedExporter, clock: Clock, caplog: pytest.LogCaptureFixture) -> Iterator[Outbox]:
    caplog.set_level(logging.INFO, logger="app.tracing")
    outbox = Outbox(exporter, "http://collector/v1/traces", clock=clock)
    outbox.join_log()
    yield outbox
    outbox.leave_log()


def test_failures_are_told_once_a_minute(
    outbox: Outbox, exporter: ScriptedExporter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason that the exporter gave, in the place of its own lines."""
    exporter.result = FAILURE
    exporter.says = [
        "Transient error HTTPConnectionPool(host='c', port=9): Max retries exceeded with url: /v1/traces (Caused by"
        " NewConnectionError(\"HTTPConnection(host='c', port=9): Failed to establish a new connection: [Errno 111]"
        ' Connection refused")) encountered while exporting spans batch, retrying in 1.05s.',
        "Failed to export spans batch due to timeout, max retries or shutdown.",
    ]
    for _ in range(int(TELL_EVERY_S / PAUSE_S) + 1):
        assert outbox.export(SPANS) is FAILURE
        clock.now += PAUSE_S
    first, second = told(caplog)
    assert first == (
        "no traces: 2 spans could not be sent to http://collector/v1/traces ([Errno 111] Connection refused);"
        " they are dropped until it answers, serving goes on"
    )
    assert second.startswith(f"no traces: {2 * (int(TELL_EVERY_S / PAUSE_S) + 1)} spans")


def test_nothing_is_tried_for_a_while_after_a_failure(
    outbox: Outbox, exporter: ScriptedExporter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """What comes meanwhile is dropped, and counted when spans reach the collector again."""
    exporter.error = RuntimeError("oh")
    outbox.export(SPANS)
    outbox.export(SPANS)
    assert exporter.num_exports == 1
    exporter.error = None
    clock.now += PAUSE_S
    assert outbox.export(SPANS) is OK
    down, up = told(caplog)
    assert "(oh)" in down
    assert up == "spans reach http://collector/v1/traces again; 4 were dropped"


def test_sdk_repeats_itself_once_a_minute(clock: Clock) -> None:
    """A queue that is full would be told of for every span, some of its errors with a traceback."""
    sdk_log = SdkLog(clock)

    def says(text: str) -> bool:
        record = logging.LogRecord("sdk", logging.WARNING, "", 0, text, (), (ValueError, ValueError(), None))
        is_told = sdk_log.filter(record)
        assert not is_told or record.exc_info is None
        return is_told

    assert [says("full"), says("full"), says("other")] == [True, False, True]
    clock.now += TELL_EVERY_S
    assert says("full")


def test_close_sends_what_there_is(outbox: Outbox, exporter: ScriptedExporter) -> None:
    """Without waiting for the next turn of the exporting thread."""
    processor = BatchSpanProcessor(outbox, schedule_delay_millis=60_000)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("t").start_span("last").end()
    close(processor, outbox, 20.0)
    assert exporter.num_exports == 1 and exporter.is_shut.is_set()


def test_close_waits_for_no_collector_that_hangs(outbox: Outbox, exporter: ScriptedExporter) -> None:
    """An attempt that goes on is ended."""
    exporter.hangs = True
    processor = BatchSpanProcessor(outbox, schedule_delay_millis=60_000)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("t").start_span("last").end()
    began_at = time.monotonic()
    close(processor, outbox, 0.05)
    assert exporter.is_shut.is_set()
    assert time.monotonic() - began_at < 15  # it hangs for twenty seconds
