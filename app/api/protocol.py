"""uvicorn's HTTP/1.1 with what it lacks: limits of a request's line and headers, and errors in this server's words."""

from __future__ import annotations

import http
import uuid
from typing import Any, NamedTuple

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_URL_BYTES = 8 * 1024
MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 128
MAX_UNWANTED_BYTES = 64 * 1024 * 1024
"""Of a body that goes on when its answer has been sent: clients that read only then have it, endless ones end."""


class _Refusal(NamedTuple):
    status: int
    error_type: str
    text: str


_URL = _Refusal(414, "too_large", f"The URL may have {MAX_URL_BYTES:,} bytes; this one has more.")
_BYTES = _Refusal(431, "too_large", f"The headers may have {MAX_HEADER_BYTES:,} bytes; these have more.")
_NUMBER = _Refusal(431, "too_large", f"A request may have {MAX_HEADERS} headers; this one has more.")
_MALFORMED = _Refusal(400, "malformed", "This is not a request of HTTP/1.1, or one that can be read in two ways.")


class _RefusedError(Exception):
    """Ends the parser, which has uvicorn answer that the request is invalid."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A head that is wrong or too large is answered, and the connection closed; what follows the body
    is held to the same limits."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._num_pending_bytes = 0  # since the parser last told of a request or of a part of its body
        self._num_header_bytes = 0
        self._num_unwanted_bytes = 0
        self._refusal = _MALFORMED

    def data_received(self, data: bytes) -> None:
        self._num_pending_bytes += len(data)
        super().data_received(data)
        # The parser tells of a header, or of a line behind the body, when it is complete: until then it keeps it.
        if self._num_pending_bytes > MAX_URL_BYTES + MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refusal = _BYTES
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._num_pending_bytes = self._num_header_bytes = self._num_unwanted_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(_URL)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._num_header_bytes += len(name) + len(value)
        if self._num_header_bytes > MAX_HEADER_BYTES:
            self._refuse(_BYTES)
        if len(self.headers) > MAX_HEADERS:
            self._refuse(_NUMBER)

    def on_headers_complete(self) -> None:
        self._num_pending_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._num_pending_bytes = 0
        super().on_body(body)
        if self.cycle.response_complete:
            self._num_unwanted_bytes += len(body)
            if self._num_unwanted_bytes > MAX_UNWANTED_BYTES:
                self.transport.close()

    def _refuse(self, refusal: _Refusal) -> None:
        self._refusal = refusal
        raise _RefusedError

    def send_400_response(self, msg: str) -> None:
        """uvicorn's, of what its parser refuses."""
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(last_answer(*self._refusal))
        self.transport.close()


def last_answer(status: int, error_type: str, text: str, *, retry_after_s: int | None = None) -> bytes:
    """Of a connection that ends before the application could answer. In Hugging Face's shape: which dialect it was to
    be is not known."""
    body = orjson.dumps({"error": text, "error_type": error_type})
    retry_after = "" if retry_after_s is None else f"retry-after: {retry_after_s}\r\n"
    head = (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {uuid.uuid4().hex}\r\n{retry_after}connection: close\r\n\r\n"
    )
    return head.encode() + body
