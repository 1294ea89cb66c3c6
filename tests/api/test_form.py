"""multipart/form-data: read by one pass over the body, whatever it holds."""

from __future__ import annotations

import pytest

from app.api.form import MAX_PARTS, read_form
from app.errors import MalformedBody

TYPE = "multipart/form-data; boundary=b"


def part(name: str, value: bytes, *, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def test_files_and_texts_keep_their_order() -> None:
    """A part with a file name is a file, however it is typed; an empty one too."""
    raw = part("a", b"1") + part("f", b"\x00\r\n--", more='; filename="x"') + part("a", "ä".encode())
    form = read_form(raw + part("e", b"", more='; filename=""') + b"--b--\r\n", TYPE)
    assert form.texts == [("a", "1"), ("a", "ä")]
    assert form.files == [("f", b"\x00\r\n--"), ("e", b"")]


def test_bytes_that_are_no_utf_8_are_read_as_latin_1() -> None:
    """As browsers of another time send them."""
    assert read_form(part("a", b"\xe4") + b"--b--\r\n", TYPE).texts == [("a", "ä")]


@pytest.mark.parametrize("charset", ["undefined", "unicode_escape", "idna", "utf-16", "no-such"])
def test_charset_is_not_the_clients_choice(charset: str) -> None:
    """Its own codecs are Python's matter."""
    form = read_form(part("a", b"\\ud800") + b"--b--\r\n", f"{TYPE}; charset={charset}")
    assert form.texts == [("a", "\\ud800")]


@pytest.mark.parametrize(
    ("raw", "content_type", "says"),
    [
        (b"", TYPE, "before its closing boundary"),
        (part("a", b"1"), TYPE, "before its closing boundary"),
        (part("a", b"1") + b"--b--", "multipart/form-data", "names no boundary"),
        (part("a", b"1") + b"--b--", "multipart/form-data; boundary=", "names no boundary"),
        (part("a", b"1") + b"--b--", "multipart/form-data; boundary=é€", "cannot be read"),
        (b"--c\r\n\r\n--c--", TYPE, "cannot be read"),
        (b"--b\r\nContent-Type: text/plain\r\n\r\n1\r\n--b--", TYPE, 'no "name"'),
        (part("a", b"1") * (MAX_PARTS + 1) + b"--b--", TYPE, "more than 256 parts"),
        (b"--b\r\n" + b"x: y\r\n" * 100 + b"\r\n1\r\n--b--", TYPE, "cannot be read"),
    ],
)
def test_what_is_no_form_is_said(raw: bytes, content_type: str, says: str) -> None:
    """A form that is cut short is not half a form."""
    with pytest.raises(MalformedBody, match="The form cannot be read") as caught:
        read_form(raw, content_type)
    assert says in caught.value.message
