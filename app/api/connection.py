"""One client's connection: limits to how many there are and how long a client may take.

uvicorn itself waits for ever for the rest of a head or a body, and for a client to read its answer. Here all three are
timed without cost to requests that come in one piece: a timer runs only while something is outstanding.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from app.api.protocol import BoundedProtocol, last_answer

MIN_BYTES_PER_S = 2**10
"""How slowly a body may come, and an answer be read, once the first of the time limit is over."""
_NO_LINGER = struct.pack("ii", 1, 0)


class Connection(BoundedProtocol):
    """Owned by the event loop."""

    def __init__(
        self, *arguments: Any, limit_s: float, max_connections: int, cut: Callable[[str], None], **options: Any
    ) -> None:
        """limit_s: for a head, from the connection's begin or the head's first byte; for a body, and beside that a
        second for each MIN_BYTES_PER_S of it; and for as many bytes of an answer to be read. cut: told why when it ends
        a connection, "head", "body", "reading" or "too_many"."""
        super().__init__(*arguments, **options)
        self._max_connections = max_connections
        self._limit_s = limit_s
        self._tell_cut = cut
        self._part = ""  # of a request that the parser is in: "head" or "body"
        self._awaited = ""  # the one of these that is timed
        self._incoming: asyncio.TimerHandle | None = None
        self._num_incoming = 0  # bytes of it since the timer was set
        self._outgoing: asyncio.TimerHandle | None = None  # while a client does not read
        self._num_outgoing = 0  # bytes that waited for it when the timer was set

    # As in uvicorn: narrower than asyncio says, which makes this of streams alone.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._tell_cut("too_many")
            transport.write(_TOO_MANY)
            transport.close()
            self._watch_reading()
        else:
            self._await("head")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._await("")
        self._stop_watching()

    # What comes

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        awaited = self._what_is_awaited()
        if awaited != self._awaited:
            self._await(awaited)
        elif awaited:
            self._num_incoming += len(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part = "head"

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._part = "body"

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = ""

    def _what_is_awaited(self) -> str:
        """Something has come: where there is neither a part of a request nor one that is being answered, it was the
        line ends that may precede a request."""
        if self._part or (self.cycle is not None and not self.cycle.response_complete):
            return self._part
        return "head"

    def _await(self, what: str) -> None:
        self._awaited = what
        self._num_incoming = 0
        if self._incoming is not None:
            self._incoming.cancel()
            self._incoming = None
        if what:
            self._incoming = self.loop.call_later(self._limit_s, self._on_late, self.loop.time())

    def _on_late(self, began_at: float) -> None:
        if self.transport.is_closing():
            return
        if self.flow.read_paused:  # it is we who do not read
            self._await(self._awaited)
            return
        due = began_at + self._limit_s + self._num_incoming / MIN_BYTES_PER_S
        if self._awaited == "body" and due > self.loop.time():
            self._incoming = self.loop.call_at(due, self._on_late, began_at)
            return
        self._end(_too_late(self._awaited, self._limit_s))

    def _end(self, answer: bytes) -> None:
        """answer: for those who have begun to ask, and have none yet."""
        self._tell_cut(self._awaited)
        cycle = self.cycle
        if self._num_incoming if cycle is None else not cycle.response_started:
            self.transport.write(answer)
        if cycle is not None:  # nothing of the application's may follow
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
        self._watch_reading()

    # What is read of an answer

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_watching()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_reading()  # a transport that is closed stays until its last bytes are read

    def _watch_reading(self) -> None:
        if self._outgoing is None:
            self._num_outgoing = self.transport.get_write_buffer_size()
            self._outgoing = self.loop.call_later(self._limit_s, self._on_unread)

    def _stop_watching(self) -> None:
        if self._outgoing is not None:
            self._outgoing.cancel()
            self._outgoing = None

    def _on_unread(self) -> None:
        self._outgoing = None
        if self._num_outgoing - self.transport.get_write_buffer_size() < self._limit_s * MIN_BYTES_PER_S:
            self._tell_cut("reading")
            # Reset: else the kernel keeps what it has of the answer, and goes on asking whether it may send it.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()
        else:
            self._watch_reading()


def _too_late(what: str, limit_s: float) -> bytes:
    text = f"The {what} of the request was not complete after {limit_s:g} s."
    return last_answer(408, "request_timeout", text)


_TOO_MANY = last_answer(503, "unavailable", "The server has as many connections as it can have.", retry_after_s=1)
