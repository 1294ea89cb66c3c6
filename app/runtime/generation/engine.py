"""Continuous batching: decide, run, account, again and again. Sequences come and go between any two steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from typing import Any, Protocol

import torch

from app.runtime.generation.account import Account
from app.runtime.generation.pacing import Pacing
from app.runtime.generation.request import Advance, Arrival, EngineState, Ranked
from app.runtime.generation.runner import Logits, Runner
from app.runtime.generation.scheduler import Chunk, Plan, Scheduler
from app.runtime.generation.sequence import Sequence

_MAX_PREFILL_TOKENS = {"cpu": 1024}
_MAX_ACCELERATOR_PREFILL_TOKENS = 8192


class Control(Protocol):
    """What an engine asks of its driver between two steps. Used on the device thread."""

    def arrivals(self) -> Ordered[Arrival]:
        """Those that came since the last time."""
        ...

    def departures(self) -> Ordered[int]:
        """Keys of those that nobody waits for any more, since the last time."""
        ...

    def emit(self, advances: Ordered[Advance], state: EngineState) -> None:
        """One step is computed."""
        ...

    def is_wanted_elsewhere(self) -> bool:
        """Whether something else waits for the device: `run` is to return soon, and will be called again."""
        ...

    def is_fatal(self, error: BaseException) -> bool:
        """Whether nothing more can be computed in this process."""
        ...


class Engine(Protocol):
    """Generates texts for one model. Owned by the device thread."""

    def run(self, control: Control) -> None:
        """Until nothing is left to do, or one step further if the device is wanted elsewhere. Raises what is fatal."""
        ...


class WholeEngine(Engine, Protocol):
    """All that a loaded model generates texts with. pool: bytes that keys and values may yet take, by device."""

    pool: dict[str, int]

    @property
    def longest(self) -> int | None:
        """Tokens that there is memory for, of one text, prompt and answer; None: no limit but the model's own."""
        ...


class ContinuousEngine:
    """Over a model that `Runner` can compute. tokenizer: only decodes. limit_tokens: of keys and values.
    max_prefill_tokens: of prompts in one step; by default what suits the device."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Any,
        *,
        end_ids: Ordered[int],
        limit_tokens: int,
        max_length: int,
        max_sequences: int,
        max_prefill_tokens: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._runner = runner
        self._account = Account(tokenizer, end_ids)
        self.room = runner.make_room(limit_tokens=limit_tokens, max_length=max_length)
        self._scheduler = Scheduler(self.room, max_sequences=max_sequences)
        self._clock = clock
        self._sequences: dict[int, Sequence] = {}
        device = runner.memory.device.type
        default = _MAX_PREFILL_TOKENS.get(device, _MAX_ACCELERATOR_PREFILL_TOKENS)
        self._pacing = Pacing(max_prefill_tokens or default)

    @property
    def longest(self) -> int:
        """Tokens of one sequence, prompt and answer."""
        return self.room.longest

    def run(self, control: Control) -> None:
        with self._runner.attending():
            while True:
                for arrival in control.arrivals():
                    self._add(arrival)
                for key in control.departures():
                    self._leave(key)
                if not self._sequences:
                    return
                advances = self._step(control)
                for advance in advances:
                    if advance.is_last:
                        self._leave(advance.key)
                control.emit(advances, self._state())
                if control.is_wanted_elsewhere():
                    return

    def forget_prefixes(self) -> None:
        """What is kept of finished sequences is not true any more: the weights changed."""
        self.room.clear()

    # Coming and going

    def _add(self, arrival: Arrival) -> None:
        sequence = self._account.begin(arrival)
        self._sequences[arrival.key] = sequence
        self._scheduler.add(sequence)

    def _leave(self, key: int) -> None:
        sequence = self._sequences.pop(key, None)
        if sequence is not None:
            self._scheduler.remove(sequence)

    # One step

    def _step(self, control: Control) -> list[Advance]:
        began_at = self._clock()
        plan = self._scheduler.schedule(self._prefill_budget())
        if not plan:
            raise RuntimeError(f"{len(self._sequences)} sequences and none can be computed. This is a bug.")
        with self._runner.step():
            advances = self._run(plan, control)
        self._pacing.learn(plan.num_tokens, self._clock() - began_at)
        self._account.num_steps += 1
        return advances

    def _run(self, plan: Plan, control: Control) -> list[Advance]:
        self._runner.copy(plan)
        advances: list[Advance] = []
        for part in self._runner.parts_of(plan.chunks):
            advances += self._computed(part, control)
        return advances

    def _computed(self, chunks: Ordered[Chunk], control: Control) -> list[Advance]:
        """Run and account. What fails with others is tried in halves: one bad sequence never harms its neighbours."""
        try:
            logits = self._runner.compute(chunks)
        except Exception as error:
            if control.is_fatal(error):
                raise
            if len(chunks) == 1:
                return [Advance(chunks[0].sequence.key, error=error)]
            middle = len(chunks) // 2
            return self._computed(chunks[:middle], control) + self._computed(chunks[middle:], control)
        return self._accounted(chunks, logits)

    def _prefill_budget(self) -> int:
        num_decoding = sum(1 for one in self._scheduler.running if one.num_new and one.num_missing == 1)
        return self._pacing.budget(num_decoding=num_decoding, num_texts=self._scheduler.num_soon)

    def _accounted(self, chunks: Ordered[Chunk], logits: Logits) -> list[Advance]:
        for chunk in chunks:
            self._scheduler.computed(chunk)
        advances: list[Advance] = []
        ready: list[tuple[Sequence, int]] = []
        for chunk, place in logits.of:
            self._rank_prompt(chunk, logits.values[place])
            if chunk.is_last and chunk.sequence.request.max_tokens > 0:
                ready.append((chunk.sequence, place.stop - 1))
            elif chunk.is_last:
                advances.append(self._account.finish(chunk.sequence, "length", None))
        if ready:
            sequences = [sequence for sequence, _ in ready]
            places = [place for _, place in ready]
            values = logits.values if len(places) == len(logits.values) else logits.values[places]
            chosen = self._account.sampler.choose(values, sequences)
            advances += [self._account.advance(one, token) for one, token in zip(sequences, chosen, strict=True)]
        return advances

    def _rank_prompt(self, chunk: Chunk, logits: torch.Tensor) -> None:
        sequence = chunk.sequence
        num_top = sequence.request.sampling.num_prompt_logprobs
        if num_top is None or len(sequence.prompt_ranked) >= sequence.num_prompt:
            return
        if chunk.start == 0:
            sequence.prompt_ranked[:] = [Ranked(sequence.tokens[0])]
        tokens = sequence.tokens[chunk.start + 1 : min(chunk.start + chunk.num_tokens + 1, sequence.num_prompt)]
        if tokens:
            sequence.prompt_ranked += self._account.sampler.rank(logits[: len(tokens)], tokens, num_top)

    def _state(self) -> EngineState:
        return self._account.state(
            num_running=len(self._scheduler.running),
            num_waiting=self._scheduler.num_waiting,
            num_used_tokens=self.room.num_used_tokens,
            limit_tokens=self.room.limit_tokens,
            num_preemptions=self._scheduler.num_preemptions,
        )
