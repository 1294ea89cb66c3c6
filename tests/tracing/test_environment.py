"""Who asks for traces, and what is said where they cannot be had."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest

from app.tracing.environment import asking_variable, exporter_of, tracing_from
from tests.tracing.collector import Collector

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
EXPORTER = "OTEL_TRACES_EXPORTER"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
URL = "http://collector:4318"


@pytest.mark.parametrize(
    ("environ", "asked_by"),
    [
        ({}, None),
        ({ENDPOINT: ""}, None),
        ({ENDPOINT: URL}, ENDPOINT),
        ({TRACES_ENDPOINT: URL}, TRACES_ENDPOINT),
        ({EXPORTER: "otlp"}, EXPORTER),
        ({ENDPOINT: URL, EXPORTER: "none"}, None),
        ({ENDPOINT: URL, "OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_SERVICE_NAME": "shop"}, None),
    ],
)
def test_variables_of_opentelemetry_are_the_switch(environ: dict[str, str], asked_by: str | None) -> None:
    """An endpoint, or an exporter by name; `none` and a disabled SDK are no."""
    assert asking_variable(environ) == asked_by


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({EXPORTER: "otlp"}, ("otlp", "http://localhost:4318/v1/traces")),
        ({ENDPOINT: f"{URL}/"}, ("otlp", f"{URL}/v1/traces")),
        ({ENDPOINT: URL, TRACES_ENDPOINT: "https://me:key@other/in?key=1"}, ("otlp", "https://other/in")),
        ({EXPORTER: "console"}, ("console", "the console")),
    ],
)
def test_log_says_where_traces_go(environ: dict[str, str], expected: tuple[str, str]) -> None:
    """Without what may be a key."""
    assert exporter_of(environ) == expected


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({EXPORTER: "jaeger"}, "no traces: OTEL_TRACES_EXPORTER is jaeger; it can be otlp, console or none"),
        (
            {ENDPOINT: URL, PROTOCOL: "grpc"},
            f"no traces: {PROTOCOL} is grpc; this server speaks http/protobuf, which collectors take at port 4318",
        ),
        ({ENDPOINT: "collector:4318"}, f"no traces: {ENDPOINT} must be a URL such as http://localhost:4318"),
        ({TRACES_ENDPOINT: "http://a:b"}, f"no traces: {TRACES_ENDPOINT} must be a URL such as http://localhost:4318"),
    ],
)
def test_what_is_wrong_is_a_sentence(environ: dict[str, str], sentence: str, caplog: pytest.LogCaptureFixture) -> None:
    """Serving goes on without traces."""
    assert tracing_from(environ, is_failure=lambda code: True) is None
    assert [record.getMessage() for record in caplog.records] == [sentence]


def test_what_the_sdk_refuses_is_a_sentence(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It reads many more variables by itself."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    assert tracing_from({ENDPOINT: URL}, is_failure=lambda code: True) is None
    (record,) = caplog.records
    assert record.getMessage().startswith("no traces: OpenTelemetry cannot begin: ")
    assert "max_queue_size" in record.getMessage() and record.exc_info is None


def test_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With the command that installs it."""
    for name in [name for name in sys.modules if name.startswith("app.tracing.") and "environment" not in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert tracing_from({ENDPOINT: URL}, is_failure=lambda code: True) is None
    (record,) = caplog.records
    assert record.getMessage() == f"no traces: {ENDPOINT} asks for them; for that, pip install 'pipeserve[otel]'"


def test_server_without_traces_imports_no_sdk() -> None:
    """Nor what sends its spans."""
    code = (
        "import sys, app.main; from app.tracing.environment import tracing_from;"
        "assert tracing_from({}, is_failure=bool) is None;"
        "sys.exit(any(name in sys.modules for name in ('opentelemetry.sdk', 'opentelemetry.exporter', 'requests')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_tracing_reaches_its_collector(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Under the server's name and version; the close sends what there is."""
    caplog.set_level(logging.INFO, logger="app.tracing")
    with Collector() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        tracing = tracing_from({ENDPOINT: collector.url}, is_failure=lambda code: True)
        assert tracing is not None
        request = tracing.begin(method="GET", path="/x", scheme="http", headers={}, began_at=1.0)
        request.end(route="", status=200, code=None, attributes={})
        asyncio.run(tracing.close())
        (span,) = collector.spans
    assert span.name == "GET"
    assert span.resource["service.name"] == "pipeserve" and span.resource["service.version"]
    assert [record.getMessage() for record in caplog.records] == [f"traces go to {collector.url}/v1/traces"]
