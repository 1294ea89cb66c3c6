"""Framing of messages on a socket, pure: bytes in, messages out, and the other way round.

A frame is a header (payload length, stream, flags) and a payload of a message's msgpack; it is at most 1 MiB. A larger
message is cut into frames of one stream, and the streams take turns, so a big answer never holds up a small one.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from app.channel.messages import (
    Cancel,
    Credit,
    FromWorker,
    Heartbeat,
    SetThreads,
    StageBegan,
    Stop,
    ToWorker,
)
from app.errors import InvalidInput

MAX_FRAME_BYTES = 2**20
MAX_MESSAGE_BYTES = 2**30

_HEADER = struct.Struct("<IIB")  # payload bytes, stream, flags
_MAX_PAYLOAD_BYTES = MAX_FRAME_BYTES - _HEADER.size
_LAST = 1
_CONTROL = (Heartbeat, Cancel, Credit, StageBegan, SetThreads, Stop)

Buffer = bytes | memoryview
M = TypeVar("M")


class ChannelError(Exception):
    """What came over the socket is not what the other end of a healthy channel sends."""


def is_control(message: ToWorker | FromWorker) -> bool:
    """Whether the message goes before data. A `Cancel` may so arrive before the `Submit` that it cancels."""
    return isinstance(message, _CONTROL)


@dataclass(slots=True)
class _Outgoing:
    stream: int
    payload: memoryview

    def next_frame(self) -> tuple[Buffer, Buffer]:
        chunk, self.payload = self.payload[:_MAX_PAYLOAD_BYTES], self.payload[_MAX_PAYLOAD_BYTES:]
        return _HEADER.pack(len(chunk), self.stream, 0 if self.payload else _LAST), chunk


class Outbox:
    """Messages on their way out. Owned by one thread or loop."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._control: deque[_Outgoing] = deque()
        self._data: deque[_Outgoing] = deque()
        self._next_stream = 0

    def __bool__(self) -> bool:
        return bool(self._control or self._data)

    def push(self, message: ToWorker | FromWorker, *, control: bool = False) -> None:
        """Raises InvalidInput where a client's value has no place in msgpack (an integer beyond 64 bits, say)."""
        try:
            payload = self._encoder.encode(message)
        except (OverflowError, UnicodeEncodeError, RecursionError) as error:
            raise InvalidInput(f"the request holds a value that cannot be processed: {error}") from error
        if len(payload) > MAX_MESSAGE_BYTES:
            raise InvalidInput(f"the request is larger than {MAX_MESSAGE_BYTES} bytes")
        queue = self._control if control else self._data
        queue.append(_Outgoing(self._next_stream, memoryview(payload)))
        self._next_stream = (self._next_stream + 1) % 2**32

    def take(self, limit_bytes: int = 2**18) -> list[Buffer]:
        """The next frames as buffers: all control messages, then data until the limit is reached (at least one)."""
        buffers: list[Buffer] = []
        while self._control:
            buffers += self._next_control()
        num_bytes = 0
        while self._data and num_bytes < limit_bytes:
            outgoing = self._data.popleft()
            header, chunk = outgoing.next_frame()
            buffers += (header, chunk)
            num_bytes += len(chunk)
            if outgoing.payload:
                self._data.append(outgoing)
        return buffers

    def _next_control(self) -> Iterator[Buffer]:
        outgoing = self._control.popleft()
        while outgoing.payload:
            yield from outgoing.next_frame()


class Inbox(Generic[M]):
    """Bytes as they come in, to messages. Owned by one thread or loop."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[M]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()
        self._streams: dict[int, bytearray] = {}

    def feed(self, data: Buffer) -> list[M]:
        """The messages that these bytes complete, in order. Raises ChannelError; the inbox is of no use after that."""
        self._buffer += data
        messages: list[M] = []
        start = 0
        with memoryview(self._buffer) as view:
            while len(view) - start >= _HEADER.size:
                length, stream, flags = _HEADER.unpack_from(view, start)
                _check_header(length, flags)
                end = start + _HEADER.size + length
                if end > len(view):
                    break
                with view[start + _HEADER.size : end] as payload:
                    messages += self._accept(stream, payload, is_last=flags == _LAST)
                start = end
        del self._buffer[:start]
        return messages

    def _accept(self, stream: int, payload: memoryview, *, is_last: bool) -> tuple[M, ...]:
        if is_last and stream not in self._streams:
            return (self._decode(payload),)
        partial = self._streams.setdefault(stream, bytearray())
        partial += payload
        if len(partial) > MAX_MESSAGE_BYTES:
            raise ChannelError(f"a message is larger than {MAX_MESSAGE_BYTES} bytes")
        if not is_last:
            return ()
        return (self._decode(memoryview(self._streams.pop(stream))),)

    def _decode(self, payload: memoryview) -> M:
        try:
            return self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ChannelError(f"a frame holds no message: {error}") from error


def _check_header(length: int, flags: int) -> None:
    if not 0 < length <= _MAX_PAYLOAD_BYTES:
        raise ChannelError(f"a frame of {length} bytes: the limit is {_MAX_PAYLOAD_BYTES}")
    if flags not in (0, _LAST):
        raise ChannelError(f"a frame with unknown flags {flags}")
