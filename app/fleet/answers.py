"""Equal requests to one model: their answers are kept for those that come later, and those that are here at the same
time are computed once. Pure, and owned by the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque

import msgspec

from app.channel.messages import ErrorInfo, JobDone
from app.errors import DeadlineExceeded, PipeserveError
from app.fleet.jobs import Job
from app.fleet.requests import JobRequest
from app.tasks.registry import ALL_TASKS

Key = bytes
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_LONG_BYTES = 2**20
"""From here on hashing (1 GiB/s) is not done on the event loop."""
_ENTRY_BYTES = 512
"""What an entry takes beside its answer: its key, the objects around them."""


class Kept(msgspec.Struct, frozen=True):
    """An answer, of the media type that is part of its key."""

    outputs: list[bytes]
    num_tokens: int

    @property
    def num_bytes(self) -> int:
        return _ENTRY_BYTES + sum(map(len, self.outputs))


async def key_of(request: JobRequest, version: int = 0) -> Key | None:
    """Of all that the answer depends on; None where equal requests may have different answers. version: of the model,
    which may be another after a reload."""
    if not ALL_TASKS[request.task].is_repeatable:
        return None
    adapter = None if request.adapter is None else request.adapter.key
    data = _ENCODER.encode((version, request.task, request.inputs, request.parameters, request.media_type, adapter))
    return _digest(data) if len(data) < _LONG_BYTES else await asyncio.to_thread(_digest, data)


def _digest(data: bytes) -> Key:
    return hashlib.blake2b(data, digest_size=32).digest()


class Answers:
    """Of one model. max_bytes: of the answers that are kept; the least recently used ones go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._waiting: dict[Key, deque[Job]] = {}  # behind the job that is computed
        self._leading: dict[Job, Key] = {}
        self.num_bytes = 0

    def find(self, key: Key) -> Kept | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def resize(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._shrink()

    def clear(self) -> None:
        """The model may be another one from now on."""
        self._kept.clear()
        self.num_bytes = 0

    def leads(self, job: Job) -> bool:
        """Whether it is to be computed; else an equal one is, whose answer it will get."""
        assert job.key is not None, "A job without a key waits for no other. This is a bug."
        if job.key in self._waiting:
            self._waiting[job.key].append(job)
            return False
        self._waiting[job.key] = deque()
        self._leading[job] = job.key
        return True

    def follows(self, job: Job) -> bool:
        """Whether it waits for an equal one's answer."""
        return job.key is not None and job in self._waiting.get(job.key, ())

    def answered(self, job: Job, done: JobDone) -> None:
        """Keep a leading job's answer, and give it to those that wait for it."""
        key = self._leading.pop(job, None)
        if key is None:
            return
        self._keep(key, Kept(done.outputs, done.num_tokens))
        for other in self._waiting.pop(key):
            other.finish(done)

    def failed(self, job: Job, error: PipeserveError) -> None:
        """What is wrong with one is wrong with all, but for its time."""
        if isinstance(error, DeadlineExceeded):
            return
        key = self._leading.pop(job, None)
        for other in () if key is None else self._waiting.pop(key):
            other.fail(ErrorInfo.of(error))

    def left(self, job: Job) -> Job | None:
        """However it ended. The job that is to be computed in its place, if it led and others wait."""
        key = self._leading.pop(job, None)
        if key is None:
            if job.key is not None and self.follows(job):
                self._waiting[job.key].remove(job)
            return None
        others = self._waiting[key]
        while others:
            heir = others.popleft()
            if heir.is_open:
                self._leading[heir] = key
                return heir
        del self._waiting[key]
        return None

    def _keep(self, key: Key, kept: Kept) -> None:
        if kept.num_bytes > self._max_bytes:
            return
        self._kept[key] = kept
        self.num_bytes += kept.num_bytes
        self._shrink()

    def _shrink(self) -> None:
        while self.num_bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= oldest.num_bytes
