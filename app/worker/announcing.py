"""What the coordinator says to the API process, in as few writes as may be: each wakes the process that answers
everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from app.channel.messages import ARRIVAL, FromWorker, StageBegan

PATIENCE_S = 0.2
"""How late the API process may learn what only limits and metrics need. It counts a stage's limit from then."""


class Sender(Protocol):
    def send(self, *messages: FromWorker, then: Callable[[], None] | None = None) -> None: ...

    def finish(self, timeout_s: float) -> None: ...


class Announcer:
    """Owned by the coordinator, which calls `settle` at the end of each of its turns.

    Which jobs would be to blame if this process died now is on the wire before a stage touches them, and off it as
    soon as no stage does. In which stage each of them is may wait for a write that somebody needs: so what there is to
    say of a job that goes through all stages by itself comes with its answer.
    """

    def __init__(self, connection: Sender, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._stages: dict[str, list[int]] = {}  # the jobs of those that are busy
        self._told: dict[str, list[int]] = {}  # the same, as the API process knows it
        self._changed: dict[str, None] = {}  # stages that began or ended since they were told
        self._messages: list[FromWorker] = []  # of this turn
        self._notes: list[FromWorker] = []
        self._due: float | None = None
        self._num_queued = 0  # handed to the sender thread, to begin once it has written
        self._num_begun = 0  # of these; counted by the sender thread

    @property
    def due(self) -> float | None:
        """When `settle` has something to write without anything else happening."""
        return self._due

    def arrived(self, job_id: int) -> None:
        """The API process counts it as begun already."""
        self._told[ARRIVAL] = [job_id]
        self._changed[ARRIVAL] = None

    def begin(self, stage: str, job_ids: list[int], then: Callable[[], None]) -> None:
        """The stage begins with these jobs, in the place of those that it had: by `then`, once the API process knows
        whom to blame. It runs in the sender thread, or at once."""
        self._stages[stage] = job_ids
        self._changed[stage] = None
        if not self._is_known():
            self._write(self._news(), then)
            return
        self._postpone()
        if self._num_queued == self._num_begun:
            then()
        else:
            self._write([], then)  # what makes them known may not be on the wire yet

    def end(self, stage: str) -> None:
        """It has no jobs any more."""
        if self._stages.pop(stage, None) is not None:
            self._changed[stage] = None

    def send(self, message: FromWorker) -> None:
        """At the end of the turn."""
        self._messages.append(message)

    def note(self, message: FromWorker) -> None:
        """With the next write: nobody waits for it."""
        self._notes.append(message)
        self._postpone()

    def settle(self) -> None:
        """Write what cannot wait, and with it all else that there is."""
        if self._messages or not self._is_known() or (self._due is not None and self._clock() >= self._due):
            messages = [*self._news(), *self._notes, *self._messages]
            self._notes.clear()
            self._messages.clear()
            self._due = None
            if messages:
                self._connection.send(*messages)

    def _write(self, news: list[StageBegan], then: Callable[[], None]) -> None:
        def written() -> None:
            self._num_begun += 1
            then()

        self._num_queued += 1
        self._connection.send(*news, then=written)

    def _postpone(self) -> None:
        if self._due is None:
            self._due = self._clock() + PATIENCE_S

    def _is_known(self) -> bool:
        return _jobs(self._stages) == _jobs(self._told)

    def _news(self) -> list[StageBegan]:
        """Beginnings first: a job that goes from stage to stage is in one of them at any moment."""
        began = [stage for stage in self._changed if stage in self._stages]
        ended = [stage for stage in self._changed if stage not in self._stages and stage in self._told]
        self._changed.clear()
        self._told = dict(self._stages)
        return [StageBegan(stage=stage, job_ids=self._stages.get(stage, [])) for stage in (*began, *ended)]


def _jobs(stages: dict[str, list[int]]) -> set[int]:
    return {job_id for job_ids in stages.values() for job_id in job_ids}
