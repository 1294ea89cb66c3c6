"""JSON of clients: what is let in is shallow and small enough for all behind it; what goes out is one line."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.json_text import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_KEYS,
    MAX_VALUES,
    TooDeepError,
    TooManyError,
    line_of,
    read_json,
)

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=30,
)


@given(VALUES)
def test_modest_json_is_read_as_it_is(value: Any) -> None:
    """Bytes and text alike."""
    raw = orjson.dumps(value)
    assert read_json(raw) == value
    assert read_json(raw.decode()) == value


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[0,{"[":', b"}]")])
def test_limit_of_depth_is_exact(opening: bytes, closing: bytes) -> None:
    """Whatever is nested in whatever; brackets in texts and keys do not count."""
    per_turn = opening.count(b"[") + opening.count(b"{") - opening.count(b'"["')
    turns = MAX_DEPTH // per_turn
    read_json(opening * turns + b'"[[[{{{"' + closing * turns)
    with pytest.raises(TooDeepError, match=str(MAX_DEPTH)):
        read_json(b"[" + opening * turns + b"0" + closing * turns + b"]")


def test_what_is_read_can_be_written() -> None:
    """orjson writes less deep than it reads."""
    deepest = read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert orjson.dumps({"answer": [deepest]})
    with pytest.raises(ValueError, match="depth"):
        read_json(b"[" * 100_000)


def test_limit_of_arrays_and_objects_is_exact() -> None:
    """Those within texts are none; it is looked at before anything is made of the text."""
    num_rows = MAX_CONTAINERS // 50_000
    rows = b",".join([b"[" + b",".join([b"{}"] * 49_999) + b"]"] * num_rows)
    with pytest.raises(TooManyError, match="250,000"):
        read_json(b"[" + rows + b"]")
    read_json(b"[" + rows.replace(b"{}", b"0", 1) + b"]")
    read_json(b'["' + b'[{\\"' * MAX_CONTAINERS + b'"]')


@pytest.mark.parametrize("content", [b'"', b'"' + b'[\\"' * 1_000_000, b"[" * 1_000_000, b'{"a' * 500_000])
def test_what_is_no_json_is_looked_through_once(content: bytes) -> None:
    """Texts without an end, and brackets without theirs."""
    with pytest.raises(ValueError):
        read_json(content)


def test_limit_of_values_is_exact() -> None:
    """Commas within texts are none."""
    assert len(read_json(b"[" + b",".join([b"7"] * MAX_VALUES) + b"]")) == MAX_VALUES
    with pytest.raises(TooManyError, match="1,000,000"):
        read_json(b"[" + b",".join([b"7"] * (MAX_VALUES + 1)) + b"]")
    read_json(b'["' + b"," * 2 * MAX_VALUES + b'"]')


def test_limit_of_keys_is_exact() -> None:
    """Over all objects together; colons within texts are none."""
    two = b'{"a":0,"b":0}'
    assert len(read_json(b"[" + b",".join([two] * (MAX_KEYS // 2)) + b"]")) == MAX_KEYS // 2
    with pytest.raises(TooManyError, match="250,000 keys"):
        read_json(b"[" + b",".join([two] * (MAX_KEYS // 2) + [b'{"a":0}']) + b"]")
    read_json(b'["' + b":" * 2 * MAX_KEYS + b'"]')


@given(st.text() | st.text(alphabet="a\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))
def test_line_is_one_for_every_idea_of_lines(text: str) -> None:
    """Python's `splitlines` knows ten ends of lines, some clients read streams by it."""
    line = line_of({"text": text}).decode()
    assert line.splitlines() == [line]
    assert orjson.loads(line) == {"text": text}
