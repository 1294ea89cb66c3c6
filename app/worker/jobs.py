"""A job's way through the worker: which of its items, inputs and answers are there already."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.channel.messages import FIRST_CREDIT, JobDelta, JobDone, StageTime, Submit, Timings
from app.runtime.base import Item
from app.worker.batch_queue import Entry

_MISSING = object()


@dataclass(slots=True)
class _Input:
    items: list[Item]
    outputs: list[Any]
    num_missing: int
    fragment: bytes | None = None


@dataclass(slots=True, eq=False)
class Job:
    """Owned by the coordinator; it is in the worker's table until it is answered or cancelled."""

    submit: Submit
    arrived_at: float
    due_at: float = math.inf  # when nobody waits for it any more
    begun_at: float | None = None  # when its latest item was begun, a text by its first token
    prepare_s: float = 0.0
    forward_s: float = 0.0
    finish_s: float = 0.0
    batch_size: int = 0
    num_tokens: int = 0
    num_generated: int = 0
    num_unfinished: int = 0
    text_ids: list[int] = field(default_factory=list)  # its sequences, in the engine or read along with
    readings: dict[tuple[int, int], int] = field(default_factory=dict)  # of these, by input and position of the item
    held: deque[JobDelta] = field(default_factory=deque)  # parts of its stream that nobody has room for yet
    credit: int = FIRST_CREDIT
    is_complete: bool = False
    stages: dict[str, StageTime] = field(default_factory=dict)  # of a traced job, by their names
    _inputs: list[_Input] = field(default_factory=list)

    @property
    def job_id(self) -> int:
        return self.submit.job_id

    def begin(self, items: Sequence[Sequence[Item]], now: float) -> list[Entry]:
        """Take the items of each input, as `prepare` made them; the entries to queue."""
        self._inputs = [_Input(list(row), [_MISSING] * len(row), len(row)) for row in items]
        self.num_unfinished = len(self._inputs)
        self.num_tokens = sum(item.cost for row in items for item in row)
        return [
            Entry(
                self.job_id,
                self.submit.task,
                item,
                now,
                self.submit.alone,
                input_index,
                position,
                self.submit.flow,
                self.submit.weight,
            )
            for input_index, row in enumerate(items)
            for position, item in enumerate(row)
        ]

    def empty_inputs(self) -> list[int]:
        """Inputs without a single item: they go to `finish` at once."""
        return [index for index, one in enumerate(self._inputs) if not one.items]

    def add_output(self, input_index: int, position: int, output: Any) -> bool:
        """Whether the input now has all its outputs."""
        one = self._inputs[input_index]
        if one.outputs[position] is not _MISSING:
            raise RuntimeError(f"job {self.job_id} got the output of one item twice. This is a bug.")
        one.outputs[position] = output
        one.num_missing -= 1
        return one.num_missing == 0

    def hand_over(self, input_index: int) -> tuple[list[Item], list[Any]]:
        """Items and outputs of a complete input, for `finish`; the job keeps neither."""
        one = self._inputs[input_index]
        items, outputs = one.items, one.outputs
        one.items, one.outputs = [], []
        return items, outputs

    def add_fragment(self, input_index: int, fragment: bytes) -> bool:
        """Whether the job now has all its answers."""
        self._inputs[input_index].fragment = fragment
        self.num_unfinished -= 1
        return self.num_unfinished == 0

    def was_in(self, stage: str, began_at: float, ended_at: float) -> None:
        """For whoever traces it. In a stage that it is in several times, it was from the first to the last of them."""
        if self.submit.is_traced:
            known = self.stages.get(stage)
            self.stages[stage] = StageTime(stage, began_at if known is None else known.began_at, ended_at)

    def wrote_first(self, joined_at: float, now: float) -> None:
        """One of its texts, which joined the engine then, has its first token."""
        if "prefill" not in self.stages:
            self.was_in("prefill", joined_at, now)

    def wrote_last(self, now: float) -> None:
        """One of its texts has its last token."""
        if (prefill := self.stages.get("prefill")) is not None:
            self.was_in("decode", prefill.ended_at, now)

    def take_parts(self) -> list[JobDelta]:
        """Of its stream, as many as its reader has room for."""
        parts = [self.held.popleft() for _ in range(min(self.credit, len(self.held)))]
        self.credit -= len(parts)
        return parts

    def answer(self, now: float) -> JobDone:
        computing_s = self.prepare_s + self.forward_s + self.finish_s
        return JobDone(
            job_id=self.job_id,
            outputs=[one.fragment for one in self._inputs if one.fragment is not None],
            timings=Timings(
                queue_s=max(0.0, now - self.arrived_at - computing_s),
                prepare_s=self.prepare_s,
                forward_s=self.forward_s,
                finish_s=self.finish_s,
            ),
            batch_size=self.batch_size,
            num_tokens=self.num_tokens,
            num_generated=self.num_generated,
            wait_s=0.0 if self.begun_at is None else self.begun_at - self.arrived_at,
            stages=list(self.stages.values()),
        )
