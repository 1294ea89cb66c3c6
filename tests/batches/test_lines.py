"""What is wrong with a file of requests is said by line; what is right is read as it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.batches.lines import MAX_PROBLEMS, Line, check_lines, read_lines

ENDPOINT = "/v1/embeddings"
MAX_BYTES = 300


def line(custom_id: str = "a", **changes: Any) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": {"input": "x"}} | changes)


def write(path: Path, *lines: str) -> Path:
    path.write_bytes("\n".join(lines).encode())
    return path


def check(path: Path) -> tuple[int, list[tuple[int | None, str, str | None]]]:
    num_lines, problems = check_lines(path, endpoint=ENDPOINT, max_bytes=MAX_BYTES)
    return num_lines, [(one.line, one.code, one.param) for one in problems]


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Blank lines are none, but they count; a mark of the byte order is no part of the first."""
    path = write(tmp_path / "a", "\ufeff" + line("a"), "", line("b", body={"input": "é", "n": 1e2}), " ")
    assert check(path) == (2, [])
    assert list(read_lines(path, max_bytes=MAX_BYTES)) == [
        Line(1, "a", b'{"input": "x"}'),
        Line(3, "b", b'{"input": "\\u00e9", "n": 100.0}'),
    ]


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ('"\xff"', "invalid_request", None),
        (line(body=[]), "invalid_body", "body"),
        (line(method="GET"), "invalid_method", "method"),
        (line(url="/v1/completions"), "mismatched_url", "url"),
        (line(custom_id=5), "invalid_request", None),  # type: ignore[arg-type]  # what is wrong is wrong on purpose
        (line(more=1), "invalid_request", None),
        ('{"custom_id": "a"}', "invalid_request", None),
        (line(body={"stream": True}), "stream_not_supported", "body.stream"),
        (line(body={"input": "x" * MAX_BYTES}), "line_too_long", None),
    ],
)
def test_wrong_line_is_named(tmp_path: Path, wrong: str, code: str, param: str | None) -> None:
    """By its number, with what is wrong with it."""
    assert check(write(tmp_path / "a", line("first"), wrong))[1] == [(2, code, param)]


def test_what_says_stream_need_not_be_streamed(tmp_path: Path) -> None:
    """Nor what is wrong in a way that its own answer will say."""
    bodies = ({"stream": False}, {"stream": None}, {"input": '"stream"'}, {"stream": 7})
    path = write(tmp_path / "a", *(line(str(number), body=body) for number, body in enumerate(bodies)))
    assert check(path) == (4, [])


def test_custom_ids_are_unique(tmp_path: Path) -> None:
    """The line that had it first is named."""
    _, problems = check_lines(write(tmp_path / "a", line("a"), line("b"), line("a")), endpoint=ENDPOINT, max_bytes=200)
    assert [(one.line, one.code, one.message) for one in problems] == [
        (3, "duplicate_custom_id", "custom_id is that of line 1.")
    ]


def test_file_without_requests_is_wrong(tmp_path: Path) -> None:
    """Also one of blank lines."""
    assert check(write(tmp_path / "a", "", " ")) == (0, [(None, "empty_file", None)])


def test_not_every_problem_is_told(tmp_path: Path) -> None:
    """A file of another kind has one on each line."""
    assert len(check(write(tmp_path / "a", *["{"] * (MAX_PROBLEMS + 5)))[1]) == MAX_PROBLEMS
