"""What clients may do to a server."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import Any

import orjson
import psutil

from tests.chaos.running import Inject, Scene
from tests.chaos.site import until

HALF_A_HEAD = b"POST /v1/text-classification HTTP/1.1\r\nHost: a\r\nX-Half: "
HALF_A_BODY = b'POST /v1/text-classification HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{"inputs": "a'
_LIMIT_S = 30.0
_LITTLE = 2**12
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def clients_that_say(said: bytes, number: int) -> Inject:
    """So many connections say this and then no more: they are ended, and nobody else notices."""

    async def inject(scene: Scene) -> None:
        before = _rss_bytes(scene)
        opened = await _open(scene, number)
        began_at = time.monotonic()
        for _, writer in opened:
            writer.write(said)
        closed = asyncio.gather(*(_until_closed(reader) for reader, _ in opened))
        await asyncio.sleep(1)
        scene.notes.append(f"{(_rss_bytes(scene) - before) / 2**20:+.0f} MiB for them")
        await asyncio.wait_for(closed, _LIMIT_S)
        scene.notes.append(f"ended after {time.monotonic() - began_at:.1f} s")
        _close(opened)

    return inject


def clients_that_drip(said: bytes, number: int) -> Inject:
    """A byte more every half second: it is the whole that is timed, not the pauses."""

    async def inject(scene: Scene) -> None:
        opened = await _open(scene, number)
        closed = [asyncio.create_task(_until_closed(reader)) for reader, _ in opened]
        began_at = time.monotonic()
        for _, writer in opened:
            writer.write(said)
        while not all(one.done() for one in closed):
            if time.monotonic() > began_at + _LIMIT_S:
                raise TimeoutError("connections that drip are not ended")
            await asyncio.sleep(0.5)
            for (_, writer), one in zip(opened, closed, strict=True):
                if not one.done():
                    writer.write(b"a")
        scene.notes.append(f"ended after {time.monotonic() - began_at:.1f} s")
        _close(opened)

    return inject


async def clients_that_do_not_read(scene: Scene) -> None:
    """Answers of 8 MiB, more than the kernel's buffers take."""
    await _leave_unread(scene, "/models/staged", {"inputs": "a", "filler": 8})


async def streams_that_nobody_reads(scene: Scene) -> None:
    """A megabyte of events each; what is made of them is bounded by what is read."""
    parameters = {"max_new_tokens": 1900, "details": True, "top_n_tokens": 5}
    body = {"inputs": "the", "model": "chat", "stream": True, "parameters": parameters}
    await _leave_unread(scene, "/v1/text-generation", body)


async def _leave_unread(scene: Scene, path: str, value: dict[str, Any]) -> None:
    body = orjson.dumps(value)
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    before, began_at = _rss_bytes(scene), time.monotonic()
    opened = await _open(scene, 10, receive_bytes=_LITTLE)
    for _, writer in opened:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads
        writer.write(head.encode() + body)
    ports, most = _ports(opened), before

    def are_cut() -> bool:
        nonlocal most
        most = max(most, _rss_bytes(scene))
        return _are_cut(scene, ports)

    await until(are_cut, "the end of connections that are not read", 90)
    scene.notes += [
        f"{(most - before) / 2**20:+.0f} MiB at most",
        f"ended after {time.monotonic() - began_at:.1f} s",
    ]
    scene.is_same_server = False  # their answers are in its books alone
    _close(opened)


def _ports(opened: Sequence[_Streams]) -> frozenset[int]:
    return frozenset(writer.get_extra_info("sockname")[1] for _, writer in opened)


def _are_cut(scene: Scene, ports: frozenset[int]) -> bool:
    connections = psutil.Process(scene.site.pid).net_connections("tcp")
    return not any(one.raddr and one.raddr.port in ports for one in connections)


async def _open(scene: Scene, number: int, receive_bytes: int | None = None) -> list[_Streams]:
    return await asyncio.gather(*(_connect(scene, receive_bytes) for _ in range(number)))


async def _connect(scene: Scene, receive_bytes: int | None) -> _Streams:
    """receive_bytes: what the kernel takes for a client that does not read; None: as much as it wants, megabytes."""
    client = socket.socket()
    client.setblocking(False)
    if receive_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await asyncio.get_running_loop().sock_connect(client, scene.site.address)
    return await asyncio.open_connection(sock=client)


def _close(opened: Sequence[_Streams]) -> None:
    for _, writer in opened:
        writer.transport.abort()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(2**16):
            pass
    except ConnectionError:
        pass


def _rss_bytes(scene: Scene) -> int:
    return psutil.Process(scene.site.pid).memory_info().rss
