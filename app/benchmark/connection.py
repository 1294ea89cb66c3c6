"""HTTP/1.1 over raw keep-alive sockets: as little CPU as Python can, so that the client measures the server."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

_MAX_HEAD_BYTES = 2**24
_PORTS = {"http": 80, "https": 443}

BROKEN = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)
"""What `Connection.exchange` raises: no connection, one that ended in the middle, and what is no HTTP."""


def encode_requests(
    url: str, bodies: Sequence[bytes], key: str | None = None, headers: Mapping[str, str] | None = None
) -> list[bytes]:
    """Whole messages. key: an API key."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    given = {"Host": parts.netloc, "Content-Type": "application/json", **(headers or {})}
    given |= {"Authorization": f"Bearer {key}"} if key else {}
    head = f"POST {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]


class Connection:
    """One keep-alive connection, opened when it is needed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port or _PORTS[parts.scheme]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, request: bytes, heard: Callable[[bytes], None] | None = None) -> tuple[bytes, bytes]:
        """The status line and the body. heard: gets the parts of a body in chunks, each as it comes. Raises BROKEN."""
        if self._streams is None or self._streams[0].at_eof():  # a server ends what was idle for long
            await self.close()
            self._streams = await asyncio.open_connection(self._host, self._port, limit=_MAX_HEAD_BYTES, ssl=self._tls)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        found = head.find(b"\r\ncontent-length:")
        if found >= 0:
            body = await reader.readexactly(int(head[found + 17 : head.index(b"\r\n", found + 17)]))
        elif b"\r\ntransfer-encoding: chunked" in head:
            body = await _read_chunks(reader, heard)
        else:  # it ends with the connection
            body = await reader.read()
        if b"\r\nconnection: close" in head:
            await self.close()
        return head[: head.index(b"\r\n")], body

    async def close(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _read_chunks(reader: asyncio.StreamReader, heard: Callable[[bytes], None] | None) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
        if heard is not None:
            heard(parts[-1])
    await reader.readline()
    return b"".join(parts)
