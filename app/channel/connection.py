"""Both ends of a worker's socket: an asyncio protocol in the API process, two threads in the worker."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from queue import Empty, SimpleQueue
from typing import cast

import msgspec

from app.channel.frames import ChannelError, Inbox, Outbox, is_control
from app.channel.messages import FromWorker, ToWorker

logger = logging.getLogger(__name__)

_READ_BYTES = 2**18
_WRITE_BUFFER_BYTES = 2**19  # how much data a control message may find ahead of it


class SocketConnection(asyncio.Protocol):
    """The API process's end. Owned by the event loop; `receive` has one consumer."""

    def __init__(self, sock: socket.socket) -> None:
        """sock: a second descriptor of the connection's socket, for what a dead worker left in it."""
        self._rest = sock
        self._outbox = Outbox()
        self._inbox: Inbox[FromWorker] = Inbox(msgspec.msgpack.Decoder(FromWorker))
        self._received: deque[FromWorker] = deque()
        self._changed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._is_paused = False
        self._is_flush_due = False

    @classmethod
    async def open(cls, sock: socket.socket) -> SocketConnection:
        """Take over a connected stream socket."""
        sock.setblocking(False)
        connection = cls(sock.dup())
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=sock)
        return connection

    def send(self, message: ToWorker) -> None:
        """Raises InvalidInput for values that have no place in msgpack; dropped once the worker is gone."""
        if self._is_closed:
            return
        self._outbox.push(message, control=is_control(message))
        if not self._is_flush_due:
            # Not at once: all messages of one turn of the loop go out in one write.
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    async def receive(self) -> AsyncIterator[FromWorker]:
        while True:
            while self._received:
                yield self._received.popleft()
            if self._is_closed:
                return
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        self._flush()
        self._is_closed = True
        self._changed.set()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from asyncio's
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        try:
            self._received.extend(self._inbox.feed(data))
        except ChannelError as error:
            logger.error("a worker's messages cannot be read, its connection ends: %s", error)
            self._abort()
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        with self._rest:
            if not self._is_closed:
                self._read_rest()
        self._is_closed = True
        self._changed.set()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._flush()

    def _flush(self) -> None:
        self._is_flush_due = False
        while self._outbox and not self._is_paused and not self._is_closed and self._transport is not None:
            self._transport.write(b"".join(self._outbox.take()))

    def _read_rest(self) -> None:
        """A write to a dead worker ends the transport before its last words are read: who was to blame, perhaps."""
        try:
            while data := self._rest.recv(_READ_BYTES):
                self.data_received(data)
        except OSError:
            pass  # nothing more

    def _abort(self) -> None:
        self._is_closed = True
        if self._transport is not None:
            self._transport.abort()


class Disconnected:
    """The API process is gone, or what it sends cannot be read."""


class WorkerConnection:
    """The worker's end: a reader thread that fills `events`, and a sender thread. Any thread may `send`."""

    def __init__(self, sock: socket.socket, events: SimpleQueue[ToWorker | Disconnected]) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._events = events
        self._outgoing: SimpleQueue[tuple[tuple[FromWorker, ...], Callable[[], None] | None] | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self._sender = threading.Thread(target=self._write, name="sender", daemon=True)

    def start(self) -> None:
        self._reader.start()
        self._sender.start()

    def send(self, *messages: FromWorker, then: Callable[[], None] | None = None) -> None:
        """Queue messages that go out together. `then` runs on the sender thread once those of them that are control
        messages, and those of earlier calls, have been written to the socket."""
        self._outgoing.put((messages, then))

    def finish(self, timeout_s: float) -> None:
        """Write what is queued, then end the sender."""
        self._outgoing.put(None)
        self._sender.join(timeout_s)

    def _read(self) -> None:
        inbox: Inbox[ToWorker] = Inbox(msgspec.msgpack.Decoder(ToWorker))
        try:
            while data := self._sock.recv(_READ_BYTES):
                for message in inbox.feed(data):
                    self._events.put(message)
        except ChannelError as error:
            logger.error("the API process's messages cannot be read: %s", error)
        except OSError:
            pass  # a reset is an end like any other
        self._events.put(Disconnected())

    def _write(self) -> None:
        outbox = Outbox()
        is_open = True
        try:
            while is_open or outbox:
                thens, is_last = self._collect(outbox, wait=is_open and not outbox)
                is_open = is_open and not is_last
                # All control messages are in the next frames: after the write they are on the wire.
                if buffers := outbox.take():
                    self._sock.sendall(b"".join(buffers))
                for then in thens:
                    then()
        except OSError:
            pass  # the API process is gone: the reader sees it as well, and the worker ends

    def _collect(self, outbox: Outbox, *, wait: bool) -> tuple[list[Callable[[], None]], bool]:
        """Move what is queued to the outbox. Returns what to run after the write, and whether `finish` was called."""
        thens: list[Callable[[], None]] = []
        try:
            entry = self._outgoing.get(block=wait)
            while entry is not None:
                messages, then = entry
                for message in messages:
                    outbox.push(message, control=is_control(message))
                if then is not None:
                    thens.append(then)
                entry = self._outgoing.get_nowait()
        except Empty:
            return thens, False
        return thens, True
