"""A request on its way through the fleet."""

from __future__ import annotations

import asyncio

from app.channel.messages import ErrorInfo, JobDone
from app.errors import PipeserveError
from app.fleet.clock import Timer
from app.fleet.requests import JobRequest
from app.fleet.residency import Lease


class Job:
    """Answered exactly once, through `answered`: by a worker, by an error of the fleet, or by its caller's leaving."""

    __slots__ = (
        "alone_deaths",
        "answered",
        "arrived_at",
        "granted_at",
        "job_id",
        "lease",
        "request",
        "sent_at",
        "timer",
    )

    def __init__(self, job_id: int, request: JobRequest, lease: Lease, now: float) -> None:
        self.job_id = job_id
        self.request = request
        self.lease = lease
        self.arrived_at = now
        self.granted_at = now  # when its model was ready for it
        self.sent_at = now  # to the worker that answered it
        self.alone_deaths = 0  # workers that died while they had only this job
        self.timer: Timer | None = None
        self.answered: asyncio.Future[JobDone] = asyncio.get_running_loop().create_future()

    @property
    def num_items(self) -> int:
        return self.request.num_items

    @property
    def is_open(self) -> bool:
        return not self.answered.done()

    def finish(self, done: JobDone) -> None:
        if self.is_open:
            self.answered.set_result(done)

    def fail(self, error: PipeserveError | ErrorInfo) -> None:
        if self.is_open:
            self.answered.set_exception(error.to_error() if isinstance(error, ErrorInfo) else error)
