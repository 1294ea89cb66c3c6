"""What the fleet tells whoever measures it."""

from __future__ import annotations

from typing import Protocol

from app.channel.messages import BatchDone, EngineReport
from app.fleet.requests import JobResult


class FleetEvents(Protocol):
    """Called on the event loop; must not raise, must not wait."""

    def load_started(self, model: str) -> None: ...

    def load_finished(self, model: str, seconds: float, outcome: str) -> None:
        """outcome: "ready", "failed" or "out_of_memory"."""
        ...

    def evicted(self, model: str, reason: str) -> None:
        """reason: "memory", "keep_alive", "request" or "shutdown"."""
        ...

    def restarted(self, model: str) -> None:
        """A worker that died is being replaced."""
        ...

    def rejected(self, model: str, reason: str) -> None:
        """reason: "model_queue", "total_queue", "draining" or "failed"."""
        ...

    def batch_done(self, model: str, batch: BatchDone) -> None: ...

    def engine_reported(self, model: str, report: EngineReport) -> None: ...

    def job_done(self, model: str, task: str, result: JobResult) -> None: ...

    def job_failed(self, model: str, task: str, code: str) -> None: ...


class NullEvents:
    """Nobody measures."""

    def load_started(self, model: str) -> None: ...

    def load_finished(self, model: str, seconds: float, outcome: str) -> None: ...

    def evicted(self, model: str, reason: str) -> None: ...

    def restarted(self, model: str) -> None: ...

    def rejected(self, model: str, reason: str) -> None: ...

    def batch_done(self, model: str, batch: BatchDone) -> None: ...

    def engine_reported(self, model: str, report: EngineReport) -> None: ...

    def job_done(self, model: str, task: str, result: JobResult) -> None: ...

    def job_failed(self, model: str, task: str, code: str) -> None: ...
