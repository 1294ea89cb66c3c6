"""A form with one file, read as it comes: the file goes to the disk, and is never in memory as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from app.errors import Cancelled, InputTooLarge, InvalidInput, MalformedBody, Unavailable, UnsupportedMedia

_FILE = "file"
_MAX_TEXT_BYTES = 2**10
_MAX_TEXTS = 16
_WRITE_AT = 2**20
"""Bytes that are gathered for one write."""
_FRAMING = 64 * 2**10
"""Bytes that the rest of the form may have."""


class Upload:
    """texts: the form's other fields. num_bytes: of the file."""

    def __init__(self) -> None:
        self.filename = ""
        self.num_bytes = 0
        self.texts: dict[str, str] = {}


async def read_upload(receive: Receive, headers: Mapping[bytes, bytes], path: Path, *, max_bytes: int) -> Upload:
    """Its file is at the path then. max_bytes: of it. Raises InputTooLarge as soon as the limit is passed,
    MalformedBody, InvalidInput, UnsupportedMedia, Cancelled, Unavailable for what is wrong with the disk; then there is
    no file."""
    kind, options = parse_options_header(headers.get(b"content-type", b""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMedia("This route takes a form (multipart/form-data), with the field file.")
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > max_bytes + _FRAMING:
        raise _too_large(max_bytes)
    form = _Form(boundary, max_bytes)
    with _file_to_be(path) as file:
        await _read(receive, form, file)
    return form.upload


@contextmanager
def _file_to_be(path: Path) -> Iterator[IO[bytes]]:
    """That is gone if it does not become one."""
    try:
        with path.open("xb") as file:
            yield file
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, FormParserError):
            raise MalformedBody(f"The form cannot be read: {error}.") from None
        if isinstance(error, OSError):
            raise Unavailable(f"The file cannot be kept: {error.strerror or error}.", retry_after_s=10) from error
        raise


async def _read(receive: Receive, form: _Form, file: IO[bytes]) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("The client left before its file was complete.")
        form.feed(message.get("body", b""))
        is_last = not message.get("more_body", False)
        if is_last:
            form.end()
        if is_last or form.num_unwritten >= _WRITE_AT:
            await asyncio.to_thread(file.writelines, form.take())
        if is_last:
            return


def _too_large(max_bytes: int) -> InputTooLarge:
    return InputTooLarge(f"A file may have {max_bytes} bytes; this one has more.", param=_FILE)


class _Form:
    """Told by the parser what it finds."""

    def __init__(self, boundary: bytes, max_bytes: int) -> None:
        self.upload = Upload()
        self.num_unwritten = 0
        self._max_bytes = max_bytes
        self._unwritten: list[bytes] = []
        self._has_file = False
        self._has_ended = False
        self._header = b""
        self._value = b""
        self._name = ""  # of the field that is read
        self._text = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        self._parser.write(data)

    def end(self) -> None:
        self._parser.finalize()
        if not self._has_ended:
            raise MalformedBody("The form cannot be read: it ends before its closing boundary.")
        if not self._has_file:
            raise InvalidInput("file is missing: the form must have a file of this name.", param=_FILE)

    def take(self) -> list[bytes]:
        """What is to be written."""
        taken, self._unwritten, self.num_unwritten = self._unwritten, [], 0
        return taken

    def _on_part_begin(self) -> None:
        self._name = ""
        self._text = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self._begin(options.get(b"filename"))
        self._header = self._value = b""

    def _begin(self, filename: bytes | None) -> None:
        if self._name == _FILE:
            if self._has_file:
                raise InvalidInput("file stands twice in the form.", param=_FILE)
            if filename is None:
                raise InvalidInput("file must be a file, with a name.", param=_FILE)
            self._has_file = True
            self.upload.filename = filename.decode("utf-8", "replace")[:255]
        elif len(self.upload.texts) == _MAX_TEXTS:
            raise MalformedBody(f"The form cannot be read: it has more than {_MAX_TEXTS} fields.")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name != _FILE:
            self._text += data[start:end]
            if len(self._text) > _MAX_TEXT_BYTES:
                raise InputTooLarge(f"{self._name} may have {_MAX_TEXT_BYTES} bytes.", param=self._name)
            return
        self._unwritten.append(data[start:end])
        self.num_unwritten += end - start
        self.upload.num_bytes += end - start
        if self.upload.num_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)

    def _on_part_end(self) -> None:
        if self._name != _FILE:
            self.upload.texts[self._name] = self._text.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._has_ended = True
