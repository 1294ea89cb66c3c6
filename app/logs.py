"""Logging: one line per record, as text for people or JSON for machines, in workers too. Bodies, keys and queries are
never logged."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

ACCESS_LOGGER = "pipeserve.access"
AUDIT_LOGGER = "pipeserve.audit"
"""Of what administrators do, whatever the level of all other lines."""
FORMATS = ("text", "json")
LOG_LEVEL_VARIABLE = "PIPESERVE_LOG_LEVEL"
LOG_FORMAT_VARIABLE = "PIPESERVE_LOG_FORMAT"


def configure_logging(*, level: str, form: str, stream: TextIO | None = None, process: str = "") -> None:
    """Send every logger of this process to one stream (stderr). form: "text" or "json". process: what each line is to
    call it, where it is not the server itself."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter(process) if form == "json" else TextFormatter(process))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger(AUDIT_LOGGER).setLevel(logging.INFO)
    # uvicorn tells of its own start and stop at INFO, which `serve` says better; others are chatty about each request.
    for chatty in ("uvicorn", "uvicorn.error", "httpx", "httpcore", "httpx2", "httpcore2", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class TextFormatter(logging.Formatter):
    """`2026-11-23T10:00:00.123Z INFO pipeserve.access message key=value ...`, tracebacks on lines of their own. A
    process with a name has that before the logger's."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = f"{process} " if process else ""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_plain(value)}" for name, value in _fields(record).items())
        said = f"{self._process}{record.name} {_one_line(record.getMessage())}"
        line = f"{_time(record)} {record.levelname} {said}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per record; a traceback is one of its strings. What a caller passed as `extra={"what": {...}}` is
    what the message says already, for machines."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            **self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "what", {}),
            **_fields(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller passed as `extra={"fields": {...}}`."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    """Whatever a client put into it, a record stays on its line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _plain(value: Any) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else _one_line(str(value))
    return f'"{text}"' if " " in text or not text else text
