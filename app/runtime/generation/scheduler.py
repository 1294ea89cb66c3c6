"""What is computed next: pure decisions, without torch, clock or loop.

All sequences that decode take part in every step; what is left of the step's budget goes to prompts, in chunks, and
those that wait come in in fair order (`app/fairness.py`), by the tokens that their clients have had computed while
others waited. A sequence that finds no room for its next token sends the youngest back to wait: its tokens are computed
again when there is room, mostly from what is still where it lay.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import chain, islice

from app.fairness import FairQueue, Place
from app.runtime.generation.room import Copy, Room
from app.runtime.generation.rows import common_length
from app.runtime.generation.sequence import Sequence

SPARE_TOKENS = 256
"""Room beyond the prompt that a sequence gets at once, so that most never move."""
WORTH_WAITING = 32
"""Tokens in common with a prompt that is being computed for which another prompt waits, rather than compute its own."""
MAX_LOOKED_AT = 64
"""Of those that wait, in one step."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence to compute: `start` and as many from there. is_last: the next token follows from it."""

    sequence: Sequence
    start: int
    num_tokens: int

    @property
    def is_last(self) -> bool:
        return self.start + self.num_tokens == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. decodes: chunks of one token, of sequences that have their prompt behind them."""

    decodes: list[Chunk] = field(default_factory=list)
    prefills: list[Chunk] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)

    @property
    def chunks(self) -> list[Chunk]:
        return [*self.decodes, *self.prefills]

    @property
    def num_tokens(self) -> int:
        return len(self.decodes) + sum(chunk.num_tokens for chunk in self.prefills)

    def __bool__(self) -> bool:
        return bool(self.decodes or self.prefills)


class Scheduler:
    """Owned by the device thread. max_sequences: that run at once."""

    def __init__(self, room: Room, *, max_sequences: int) -> None:
        self._room = room
        self._max_sequences = max_sequences
        self._waiting: FairQueue[Sequence] = FairQueue()
        self._preempted: deque[Place[Sequence]] = deque()  # they go before all that wait
        self.running: list[Sequence] = []
        self.num_preemptions = 0

    def __len__(self) -> int:
        return self.num_waiting + len(self.running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting) + len(self._preempted)

    @property
    def num_soon(self) -> int:
        """Sequences that run, or will when their prompts are computed."""
        return min(self._max_sequences, len(self))

    def add(self, sequence: Sequence) -> None:
        self._waiting.push(sequence, sequence.flow, weight=sequence.weight, cost=len(sequence.tokens))

    def remove(self, sequence: Sequence) -> None:
        """It is complete, or nobody waits for it."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self._waiting.discard(sequence, sequence.flow)
            self._preempted = deque(place for place in self._preempted if place.item is not sequence)
        self._release(sequence)

    def schedule(self, max_prefill_tokens: int) -> Plan:
        """max_prefill_tokens: of prompts, in this step."""
        plan = Plan()
        self._decode(plan)
        left = self._prefill_running(plan, max_prefill_tokens)
        self._admit(plan, left)
        self._charge(plan.decodes)
        return plan

    def _charge(self, decodes: list[Chunk]) -> None:
        """What is computed while nobody waits is nobody's loss."""
        if not self._waiting:
            self._waiting.time.rest()
            return
        for chunk in decodes:
            self._waiting.time.charge(chunk.sequence.flow, chunk.num_tokens, chunk.sequence.weight)

    def computed(self, chunk: Chunk) -> None:
        """Its keys and values are there."""
        sequence = chunk.sequence
        sequence.num_computed = chunk.start + chunk.num_tokens
        if sequence.place is not None:
            self._room.computed(sequence.place, sequence.num_computed)

    # Sequences that run

    def _decode(self, plan: Plan) -> None:
        for sequence in list(self.running):
            if sequence not in self.running or sequence.num_missing != 1 or sequence.num_new == 0:
                continue
            if self._has_room(sequence, plan):
                plan.decodes.append(Chunk(sequence, sequence.num_computed, 1))
        plan.decodes[:] = [chunk for chunk in plan.decodes if chunk.sequence.place is not None]

    def _has_room(self, sequence: Sequence, plan: Plan) -> bool:
        """Room for all its tokens, if need be of sequences that came later, or by its own waiting."""
        while True:
            placed = self._room.grow(sequence.place, len(sequence.tokens), spare=self._spare(sequence))
            if placed is not None:
                break
            youngest = max(self.running, key=lambda one: one.order)
            self._preempt(youngest)
            if youngest is sequence:
                return False
        sequence.place = placed.place
        if placed.copy is not None:
            plan.copies.append(placed.copy)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.num_preemptions += 1
        self.running.remove(sequence)
        self._release(sequence)
        self._preempted.appendleft(Place(sequence, sequence.flow, sequence.weight, 0.0, sequence.order))

    def _release(self, sequence: Sequence) -> None:
        if sequence.place is not None:
            self._room.release(sequence.place)
            sequence.place = None
            sequence.num_computed = 0

    def _prefill_running(self, plan: Plan, left: int) -> int:
        for sequence in self.running:
            if left > 0 and (sequence.num_missing > 1 or sequence.num_new == 0):
                left -= self._chunk(sequence, plan, left)
        return left

    def _chunk(self, sequence: Sequence, plan: Plan, most: int) -> int:
        num_tokens = min(most, sequence.num_missing)
        plan.prefills.append(Chunk(sequence, sequence.num_computed, num_tokens))
        return num_tokens

    # Sequences that wait

    def _admit(self, plan: Plan, left: int) -> None:
        """In order: nobody overtakes one that waits for room. Who waits for another's prompt may be overtaken."""
        for place in list(islice(chain(self._preempted, self._waiting.in_order()), MAX_LOOKED_AT)):
            sequence = place.item
            if left <= 0 or len(self.running) >= self._max_sequences:
                return
            if self._may_soon_share(sequence):
                continue
            if not self._place(sequence, plan):
                return
            if place in self._preempted:
                self._preempted.remove(place)  # its tokens were charged
            else:
                self._waiting.take(place, sequence.num_missing)
            self.running.append(sequence)
            left -= self._chunk(sequence, plan, left)

    def _may_soon_share(self, sequence: Sequence) -> bool:
        """Whether a prompt that is being computed begins as this one does, further than it is computed yet."""
        if sequence.request.sampling.num_prompt_logprobs is not None:
            return False
        there: int | None = None
        for other in self.running:
            is_computing = other.num_missing > 1 or other.num_new == 0
            if not is_computing or other.kind != sequence.kind:
                continue
            common = self._room.shareable(common_length(other.tokens, sequence.tokens, len(sequence.tokens) - 1))
            if common - other.num_computed < WORTH_WAITING:
                continue
            if there is None:
                there = self._room.shared_length(sequence.tokens, sequence.kind)
            if common - there >= WORTH_WAITING:
                return True
        return False

    def _place(self, sequence: Sequence, plan: Plan) -> bool:
        """A place for it, with what is known of its beginning."""
        wants_prompt = sequence.request.sampling.num_prompt_logprobs is not None and sequence.num_new == 0
        placed = self._room.place(
            sequence.tokens,
            sequence.kind,
            spare=self._spare(sequence),
            may_share=not wants_prompt,  # its prompt's logits are asked for: they are computed
        )
        if placed is None:
            return False
        if placed.copy is not None:
            plan.copies.append(placed.copy)
        sequence.place, sequence.num_computed = placed.place, placed.length
        if not sequence.was_admitted:
            sequence.num_cached = min(placed.length, sequence.num_prompt)
            sequence.was_admitted = True
        return True

    def _spare(self, sequence: Sequence) -> int:
        """No large part of a small memory."""
        return min(SPARE_TOKENS, sequence.num_left, self._room.longest // 8)
