"""Sequences that the engine has, as the coordinator sees them, and the reports of how they go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.channel.messages import EngineReport
from app.runtime.generation.request import EngineState
from app.worker.batch_queue import Entry

REPORT_S = 0.25


@dataclass(slots=True, eq=False)
class Text:
    """advanced_at: when its latest token came; None before the first."""

    entry: Entry
    arrived_at: float
    advanced_at: float | None = None


class ReportWriter:
    """Gathers steps into one report now and then. Owned by the coordinator."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._sent_at = clock()
        self._told = EngineState()
        self._state = EngineState()
        self._first_token_s: list[float] = []
        self._inter_token_s: list[float] = []

    def step(self, state: EngineState, now: float) -> bool:
        """Whether a report is due."""
        self._state = state
        if now - self._sent_at < REPORT_S:
            return False
        self._sent_at = now
        return True

    def rest(self) -> None:
        """Nothing is generated any more: what left did so between two steps."""
        self._state = replace(self._state, num_running=0, num_waiting=0, num_used_tokens=0)

    def waited(self, text: Text, now: float) -> None:
        if text.advanced_at is None:
            self._first_token_s.append(now - text.arrived_at)
        else:
            self._inter_token_s.append(now - text.advanced_at)
        text.advanced_at = now

    def take(self) -> EngineReport:
        state, told = self._state, self._told
        report = EngineReport(
            num_running=state.num_running,
            num_waiting=state.num_waiting,
            num_used_tokens=state.num_used_tokens,
            limit_tokens=state.limit_tokens,
            num_steps=state.num_steps - told.num_steps,
            num_preemptions=state.num_preemptions - told.num_preemptions,
            num_prompt_tokens=state.num_prompt_tokens - told.num_prompt_tokens,
            num_cached_tokens=state.num_cached_tokens - told.num_cached_tokens,
            num_generated_tokens=state.num_generated_tokens - told.num_generated_tokens,
            first_token_s=self._first_token_s,
            inter_token_s=self._inter_token_s,
        )
        self._told = state
        self._first_token_s, self._inter_token_s = [], []
        return report
