"""What is written down of one job while it goes through the fleet, and the spans that are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.trace import Link, Span, SpanContext

from app.channel.messages import BatchDone, StageTime
from app.fleet.journal import Journal
from app.fleet.requests import JobResult
from app.tracing import genai
from app.tracing.spans import Attributes, Scribe, fail

if TYPE_CHECKING:
    from app.tracing.request import RequestTrace

MAX_FORWARDS = 32
"""Of one job: those of the rest are counted (`pipeserve.forwards`)."""
MIN_WAIT_S = 0.001
"""Waits between two stages that are shorter have no span; the one before the first stage always has."""


@dataclass(slots=True)
class _Attempt:
    """A worker that had the job. died_at: when that ended, for the reason."""

    sent_at: float
    alone: bool
    died_at: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Forward:
    """shared: the batch's own span, where it had several requests that are traced."""

    batch: BatchDone
    shared: SpanContext | None


@dataclass(slots=True)
class _Times:
    """What happened to the job, in seconds of the clock."""

    created_at: float
    began_at: float | None = None
    waits_for_load: bool = False
    granted_at: float | None = None
    ended_at: float | None = None
    attempts: list[_Attempt] = field(default_factory=list)
    forwards: list[_Forward] = field(default_factory=list)
    num_forwards: int = 0
    stages: dict[str, StageTime] = field(default_factory=dict)


class JobTrace(Journal):
    """Owned by the event loop."""

    is_kept = True

    def __init__(
        self,
        request: RequestTrace,
        task: str,
        model: str,
        inputs: Sequence[object],
        parameters: Mapping[str, object],
    ) -> None:
        self._request = request
        self._scribe = request.scribe
        self._clock = request.scribe.clock
        self._task = task
        self._model = model
        self._operation = genai.operation_of(task, inputs)
        self._num_inputs = len(inputs)
        self._parameters = parameters
        self._times = _Times(self._clock())
        self._is_stream = False
        self._cache: str | None = None
        self._result: JobResult | None = None
        self._code: str | None = None

    # What the fleet tells

    def began(self, *, is_stream: bool) -> None:
        self._times.began_at = self._clock()
        self._is_stream = is_stream

    def waits_for_load(self) -> None:
        self._times.waits_for_load = True

    def granted(self) -> None:
        self._times.granted_at = self._clock()

    def shared(self) -> None:
        self._cache = "shared"

    def sent(self, *, alone: bool) -> None:
        self._times.attempts.append(_Attempt(self._clock(), alone))

    def forwarded(self, batch: BatchDone, together: Sequence[Journal]) -> None:
        traced = [job for job in together if isinstance(job, JobTrace)]
        shared = self._write_batch(batch, traced) if len(traced) > 1 else None
        for job in traced:
            job._times.num_forwards += 1
            if len(job._times.forwards) < MAX_FORWARDS:
                job._times.forwards.append(_Forward(batch, shared))

    def computed(self, stages: Sequence[StageTime]) -> None:
        self._times.stages = {one.stage: one for one in stages}

    def returned(self, reason: str) -> None:
        attempt = self._times.attempts[-1]
        attempt.died_at, attempt.reason = self._clock(), reason

    def ended(self, result: JobResult | None, code: str | None) -> None:
        self._times.ended_at = self._clock()
        self._result, self._code = result, code
        if result is not None and result.is_kept:
            self._cache = "hit"

    # Spans

    def _write_batch(self, batch: BatchDone, jobs: Sequence[JobTrace]) -> SpanContext:
        return self._scribe.write_batch(
            f"batch {self._model}",
            batch.began_at,
            batch.began_at + batch.forward_s,
            {"pipeserve.model": self._model, "pipeserve.batch.traced_jobs": len(jobs), **_of_batch(batch)},
            requests=[job._request.context for job in jobs],
            error_type=_error_type(batch),
        )

    def write(self, parent: Span, now: float) -> None:
        """The request is over, whose span is the parent."""
        times = self._times
        ended_at = now if self._is_stream or times.ended_at is None else times.ended_at
        name = f"{self._operation or self._task} {self._model}"
        span = self._scribe.begin(parent, name, times.created_at, self._attributes())
        _Stages(self._scribe, span, times).write(ended_at, waits_for="answer" if self._cache == "shared" else "prepare")
        first_at = self._request.answer_began_at
        if self._is_stream and first_at is not None:
            self._scribe.write(span, "stream", first_at, ended_at)
        if self._code is not None and self._scribe.is_failure(self._code):
            fail(span, self._code)
        span.end(self._scribe.ns(ended_at))

    def _attributes(self) -> Attributes:
        result = self._result
        attributes: Attributes = {
            "pipeserve.task": self._task,
            "pipeserve.model": self._model,
            "pipeserve.inputs": self._num_inputs,
            **self._genai_attributes(),
        }
        if result is not None:
            attributes["pipeserve.tokens"] = result.num_tokens
        if self._times.num_forwards:
            attributes["pipeserve.forwards"] = self._times.num_forwards
        if self._cache is not None:
            attributes["pipeserve.cache"] = self._cache
        if self._code is not None:
            attributes["pipeserve.code"] = self._code
        return attributes

    def _genai_attributes(self) -> Attributes:
        if self._operation is None:
            return {}
        attributes = genai.of_request(self._operation, self._model, self._parameters)
        if self._result is not None:
            attributes |= genai.of_answer(self._task, self._operation, self._model, self._result)
        if self._is_stream:
            attributes["gen_ai.request.stream"] = True
            if (first_at := self._request.answer_began_at) is not None:
                attributes["gen_ai.response.time_to_first_chunk"] = first_at - self._request.began_at
        return attributes


@dataclass(frozen=True, slots=True)
class _Stages:
    """Writes the spans below the job's, in the order of time."""

    scribe: Scribe
    job: Span
    times: _Times

    def write(self, ended_at: float, *, waits_for: str) -> None:
        """waits_for: what a job waits for that no worker has yet."""
        times, at = self.times, self.times.began_at
        if at is None:
            return  # refused, or answered from the cache
        if times.waits_for_load:
            granted_at = ended_at if times.granted_at is None else times.granted_at
            self.scribe.write(self.job, "load", at, granted_at)
            at = granted_at
        for attempt in times.attempts:
            at = self._lost(attempt, at)
        latest = times.attempts[-1] if times.attempts else None
        if times.stages or times.forwards:
            self._write_stages(at)
        elif latest is None and times.granted_at is not None:
            self._queue(at, ended_at, waits_for)
        elif latest is not None and latest.died_at is None:
            self.scribe.write(self.job, "worker", latest.sent_at, ended_at)  # it was not asked to tell more

    def _lost(self, attempt: _Attempt, at: float) -> float:
        """Nobody knows what a worker did that died. When that was known, or `at` if it did not die."""
        if attempt.died_at is None:
            return at
        self.scribe.write(
            self.job, "worker", attempt.sent_at, attempt.died_at, error_type="worker_lost", reason=attempt.reason
        )
        following = next((one for one in self.times.attempts if one.sent_at >= attempt.died_at), None)
        if following is not None:
            attributes: Attributes = {"pipeserve.reason": attempt.reason, "pipeserve.alone": following.alone}
            self.job.add_event("retry", attributes, timestamp=self.scribe.ns(following.sent_at))
        return attempt.died_at

    def _write_stages(self, at: float) -> None:
        stages = self.times.stages
        if (prepare := stages.get("prepare")) is not None:
            self._queue(at, prepare.began_at, "prepare")
            self.scribe.write(self.job, "prepare", prepare.began_at, prepare.ended_at)
            at = prepare.ended_at
        for forward in self.times.forwards:
            at = self._write_forward(forward, at)
        for name in ("prefill", "decode", "finish"):
            if (stage := stages.get(name)) is not None:
                self._wait(at, stage.began_at, name)
                self.scribe.write(self.job, name, stage.began_at, stage.ended_at)
                at = max(at, stage.ended_at)

    def _write_forward(self, forward: _Forward, at: float) -> float:
        batch, ended_at = forward.batch, forward.batch.began_at + forward.batch.forward_s
        self._wait(at, batch.began_at, "forward")
        self.scribe.write(
            self.job,
            "forward",
            batch.began_at,
            ended_at,
            _of_batch(batch),
            links=[] if forward.shared is None else [Link(forward.shared)],
            error_type=_error_type(batch),
        )
        return max(at, ended_at)

    def _wait(self, since: float, until: float, stage: str) -> None:
        if until - since >= MIN_WAIT_S:
            self._queue(since, until, stage)

    def _queue(self, since: float, until: float, stage: str) -> None:
        self.scribe.write(self.job, "queue", since, until, {"pipeserve.queue.for": stage})


def _of_batch(batch: BatchDone) -> Attributes:
    return {
        "pipeserve.task": batch.task,
        "pipeserve.batch.items": batch.num_items,
        "pipeserve.batch.tokens": batch.tokens,
        "pipeserve.batch.padded_tokens": batch.padded_tokens,
    }


def _error_type(batch: BatchDone) -> str | None:
    return None if batch.reason == "ok" else batch.reason
