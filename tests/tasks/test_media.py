"""Strings in the place of files: base64, a data URI or a URL, whatever their length."""

from __future__ import annotations

import base64

import pytest

from app.tasks.media import RemoteMedia, read_media

FILE = b"\x89PNG\xfb\xff"
TEXT = base64.b64encode(FILE).decode()


@pytest.mark.parametrize(
    "given",
    [
        TEXT,
        TEXT.rstrip("="),
        TEXT.replace("+", "-").replace("/", "_"),
        f"{TEXT[:4]}\r\n{TEXT[4:]}",
        f"data:image/png;base64,{TEXT}",
        f"DATA:image/png;name=a.png;charset=utf-8;base64,{TEXT}",
        f"data:;base64,{TEXT}",
        FILE,
    ],
)
def test_file_is_read_from_every_form(given: str | bytes) -> None:
    """With and without line breaks and padding, of both alphabets."""
    assert read_media(given) == FILE


def test_url_is_left_to_who_fetches() -> None:
    """It is no file yet."""
    assert read_media("HTTPS://example.org/a.png") == RemoteMedia("HTTPS://example.org/a.png")


@pytest.mark.parametrize(
    "given",
    [
        "data:" + "a" * 5_000_000,
        "data:" + "a/" * 2_000_000,
        "data:" + ";a=b" * 1_000_000,
        "data:a/b" + ";a=b" * 1_000_000 + ";base64,AAAA",
        "data:," + "a" * 1_000_000,
        "data:image/png;base64",
        "a b" * 1_000_000 + "!",
        "=" * 1_000_000,
        "",
        "\u2028" * 1_000_000,
        7,
        None,
    ],
)
def test_what_is_no_file_is_looked_through_once(given: object) -> None:
    """However long it takes the form of one; the sentence repeats none of it."""
    with pytest.raises(ValueError) as caught:
        read_media(given)
    assert len(str(caught.value)) < 200
