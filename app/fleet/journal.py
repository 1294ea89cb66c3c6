"""What the fleet tells whoever follows one job: a trace of its request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.channel.messages import BatchDone, StageTime

if TYPE_CHECKING:
    from app.fleet.requests import JobResult


class Journal:
    """Nobody follows the job: this one writes nothing down, and the job's worker tells nothing of its stages.

    Called on the event loop, in the order of what happens; must not raise, must not wait.
    """

    is_kept = False

    def began(self, *, is_stream: bool) -> None:
        """It has its permits."""

    def waits_for_load(self) -> None:
        """Its model is not loaded."""

    def granted(self) -> None:
        """Its model is loaded."""

    def shared(self) -> None:
        """An equal job is computed already, whose answer it waits for."""

    def sent(self, *, alone: bool) -> None:
        """To a worker. alone: it may have ended the one before."""

    def forwarded(self, batch: BatchDone, together: Sequence[Journal]) -> None:
        """A forward had something of it. Told to one of the jobs that it had something of, for all of them."""

    def computed(self, stages: Sequence[StageTime]) -> None:
        """Its worker has answered; these are the stages that are not forwards."""

    def returned(self, reason: str) -> None:
        """Its worker ended; it waits for another, unless it ends here."""

    def ended(self, result: JobResult | None, code: str | None) -> None:
        """With a result, or with an error of this code."""


NOBODYS = Journal()
