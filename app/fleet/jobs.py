"""A request on its way through the fleet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from app.channel.messages import ErrorInfo, JobDone
from app.errors import PipeserveError
from app.fleet.admission import Permit
from app.fleet.clock import Timer
from app.fleet.requests import JobRequest
from app.fleet.residency import Lease
from app.tasks.completion import Delta


class Stream:
    """Parts of an answer between the worker and the one who reads along. Owned by the event loop."""

    def __init__(self) -> None:
        self._parts: deque[Delta] = deque()
        self._changed = asyncio.Event()
        self._is_over = False
        self.has_begun = False
        self.on_taken: Callable[[int], None] = lambda num_parts: None  # of the worker that it comes from

    def put(self, delta: Delta) -> None:
        self.has_begun = True
        self._parts.append(delta)
        self._changed.set()

    def end(self) -> None:
        self._is_over = True
        self._changed.set()

    async def parts(self) -> AsyncIterator[Delta]:
        """Until the end. What is taken makes room for more."""
        while True:
            while self._parts:
                delta = self._parts.popleft()
                self.on_taken(1)
                yield delta
            if self._is_over:
                return
            self._changed.clear()
            await self._changed.wait()


class Job:
    """Answered exactly once, through `answered`: by a worker, by an error of the fleet, or by its caller's leaving.

    due_at: its deadline, on the fleet's clock.
    """

    __slots__ = (
        "alone_deaths",
        "answered",
        "arrived_at",
        "due_at",
        "granted_at",
        "job_id",
        "key",
        "lease",
        "permit",
        "request",
        "sent_at",
        "stream",
        "timer",
    )

    def __init__(
        self,
        job_id: int,
        request: JobRequest,
        lease: Lease,
        permit: Permit,
        now: float,
        due_at: float,
        stream: Stream | None = None,
    ) -> None:
        self.job_id = job_id
        self.request = request
        self.lease = lease
        self.permit = permit
        self.due_at = due_at
        self.arrived_at = now
        self.granted_at = now  # when its model was ready for it
        self.sent_at = now  # to the worker that answered it
        self.alone_deaths = 0  # workers that died while they had only this job
        self.timer: Timer | None = None
        self.stream = stream
        self.key: bytes | None = None  # that equal jobs have too, where they may have one answer
        self.answered: asyncio.Future[JobDone] = asyncio.get_running_loop().create_future()

    @property
    def num_items(self) -> int:
        return self.request.num_items

    @property
    def has_streamed(self) -> bool:
        """Whether somebody may have read of it: it cannot be computed again."""
        return self.stream is not None and self.stream.has_begun

    @property
    def is_open(self) -> bool:
        return not self.answered.done()

    def finish(self, done: JobDone) -> None:
        if self.is_open:
            self.answered.set_result(done)

    def fail(self, error: PipeserveError | ErrorInfo) -> None:
        if self.is_open:
            self.answered.set_exception(error.to_error() if isinstance(error, ErrorInfo) else error)
