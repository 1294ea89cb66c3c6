"""Whether and where to traces go: OpenTelemetry's own variables, as for every program that has its SDK."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from app.tracing.tracing import Tracing

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_DEFAULT_ENDPOINT = "http://localhost:4318"
_PROTOCOL = "http/protobuf"
_EXPORTERS = ("otlp", "console")

logger = logging.getLogger(__name__)


def tracing_from(environ: Mapping[str, str], *, is_failure: Callable[[str], bool]) -> Tracing | None:
    """None where nobody asked for traces, or where they cannot be had: then the log has one sentence, and serving goes
    on without them. Nothing of OpenTelemetry is imported before somebody asks."""
    asked_by = asking_variable(environ)
    if asked_by is None:
        return None
    try:
        exporter, where = exporter_of(environ)
        return _make(exporter, where, is_failure)
    except _NotTracedError as problem:
        logger.warning("no traces: %s", problem)
    except ImportError:
        logger.warning("no traces: %s asks for them; for that, pip install 'pipeserve[otel]'", asked_by)
    return None


def asking_variable(environ: Mapping[str, str]) -> str | None:
    """The variable that asks for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return None if exporter == "none" else "OTEL_TRACES_EXPORTER"
    return next((name for name in _ENDPOINTS if environ.get(name)), None)


def exporter_of(environ: Mapping[str, str]) -> tuple[str, str]:
    """Its name, and where it sends spans, for the log. Raises _NotTracedError."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if exporter not in _EXPORTERS:
        raise _NotTracedError(f"OTEL_TRACES_EXPORTER is {exporter}; it can be otlp, console or none")
    if exporter == "console":
        return exporter, "the console"
    for name in _PROTOCOLS:
        if (protocol := environ.get(name, "").strip()) not in ("", _PROTOCOL):
            raise _NotTracedError(
                f"{name} is {protocol}; this server speaks {_PROTOCOL}, which collectors take at port 4318"
            )
    return exporter, _endpoint(environ)


def _endpoint(environ: Mapping[str, str]) -> str:
    """As the exporter reads it. Raises _NotTracedError."""
    own, of_all = (environ.get(name, "").strip() for name in _ENDPOINTS)
    url = own or f"{(of_all or _DEFAULT_ENDPOINT).rstrip('/')}/v1/traces"
    try:
        place = urlsplit(url)
        if place.scheme not in ("http", "https") or not place.hostname or place.port == 0:
            raise ValueError
    except ValueError:
        name = _ENDPOINTS[0] if own else _ENDPOINTS[1]
        raise _NotTracedError(f"{name} must be a URL such as {_DEFAULT_ENDPOINT}") from None
    return urlunsplit(place._replace(netloc=place.netloc.rpartition("@")[2], query=""))  # no credentials


def _make(exporter: str, where: str, is_failure: Callable[[str], bool]) -> Tracing:
    """Raises ImportError, and _NotTracedError for what the SDK says of its variables."""
    try:
        from app.tracing.tracing import Tracing, make_exporter

        tracing = Tracing(make_exporter(exporter), where, is_failure=is_failure)
    except ImportError:
        raise
    except Exception as error:  # variables are read by several libraries: each has its own way to refuse one
        raise _NotTracedError(f"OpenTelemetry cannot begin: {' '.join(str(error).split())}") from error
    logger.info("traces go to %s", where)
    return tracing


class _NotTracedError(Exception):
    """A sentence: why there are no traces."""
