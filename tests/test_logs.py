"""Log lines: one per record, for people or machines."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import orjson
import pytest

from app.logs import configure_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_is_one_line_with_its_fields(stream: io.StringIO) -> None:
    """Even when a client wrote a line break into it."""
    configure_logging(level="info", form="text", stream=stream)
    fields = {"request_id": "r1", "model": "a b", "total_ms": 1.23456}
    logging.getLogger("pipeserve.access").info("GET %s", "/a\nINFO forged", extra={"fields": fields})
    logging.getLogger("pipeserve.access").debug("not this")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.endswith(' INFO pipeserve.access GET /a\\nINFO forged request_id=r1 model="a b" total_ms=1.23\n')


def test_json_is_one_object_with_its_fields(stream: io.StringIO) -> None:
    """Tracebacks included."""
    configure_logging(level="info", form="json", stream=stream)
    try:
        raise ValueError("oh")
    except ValueError:
        logging.getLogger("x").exception("it %s", "broke", extra={"fields": {"request_id": "r1"}})
    entry = orjson.loads(stream.getvalue())
    assert (entry["message"], entry["level"], entry["request_id"]) == ("it broke", "error", "r1")
    assert "ValueError: oh" in entry["traceback"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_of_other_processes_name_them(stream: io.StringIO, form: str) -> None:
    """Workers write to the same stream, in the same form."""
    configure_logging(level="info", form=form, stream=stream, process="worker[7]")
    logging.getLogger("x").info("hello")
    line = stream.getvalue()
    if form == "json":
        assert orjson.loads(line)["process"] == "worker[7]"
    else:
        assert line.endswith(" INFO worker[7] x hello\n")


def test_json_has_what_the_message_says_as_fields_too(stream: io.StringIO) -> None:
    """For machines; a person reads it once."""
    for form in ("text", "json"):
        configure_logging(level="info", form=form, stream=stream)
        logging.getLogger("x").info("GET /a 200", extra={"what": {"status": 200}, "fields": {"request_id": "r1"}})
    text, entry = stream.getvalue().splitlines()
    assert text.endswith("x GET /a 200 request_id=r1")
    assert orjson.loads(entry)["status"] == 200


def test_level_holds_for_everyone(stream: io.StringIO) -> None:
    """`--log-level error` silences warnings; uvicorn's own start and stop are never told."""
    configure_logging(level="error", form="text", stream=stream)
    logging.getLogger("uvicorn.error").warning("w")
    configure_logging(level="info", form="text", stream=stream)
    logging.getLogger("uvicorn.error").info("Started server process")
    assert stream.getvalue() == ""
