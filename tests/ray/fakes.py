"""A deployment without Ray: what its handle does is a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from app.channel.messages import Timings
from app.fleet.requests import JobRequest, JobResult
from app.ray.wire import Reply, decode_request, encode

RESULT = JobResult(
    outputs=[b'[{"label":"POSITIVE","score":0.9}]'],
    timings=Timings(queue_s=0.1, prepare_s=0.2, forward_s=0.3, finish_s=0.4),
    load_wait_s=0.0,
    total_s=1.0,
    batch_size=2,
    num_tokens=5,
)

Step = Reply | Exception


class FakeHandle:
    """calls: what each `call` gives or raises, one after the other, the last again and again; an empty list: nothing,
    ever. streams: the same for each `stream`, step by step."""

    def __init__(self, *, calls: Sequence[Step] = (), streams: Sequence[Sequence[Step]] = ()) -> None:
        self._calls = list(calls)
        self._streams = list(streams)
        self.methods: list[str] = []
        self.requests: list[JobRequest] = []
        self.num_left = 0  # calls and streams that were left before their end

    async def call(self, method: str, message: bytes) -> bytes:
        self._note(method, message)
        if not self._calls:
            await self._hang()
        return _given(self._calls.pop(0) if len(self._calls) > 1 else self._calls[0])

    async def stream(self, method: str, message: bytes) -> AsyncGenerator[bytes, None]:
        self._note(method, message)
        steps = self._streams.pop(0) if len(self._streams) > 1 else self._streams[0]
        for step in steps:
            yield _given(step)
        await self._hang()

    async def tell_all(self, method: str, message: bytes) -> None:
        raise AssertionError("an ingress tells models nothing")

    def _note(self, method: str, message: bytes) -> None:
        self.methods.append(method)
        if message:
            self.requests.append(decode_request(message))

    async def _hang(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.num_left += 1
            raise


def _given(step: Step) -> bytes:
    if isinstance(step, Exception):
        raise step
    return encode(step)
