"""vLLM behind our engine interface: it chooses each token, our account says what the token means for its text."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Any, Protocol

from app.errors import BackendFailed, InvalidInput
from app.runtime.backends.vllm_arguments import SamplingArguments, arguments_of
from app.runtime.generation.account import Account
from app.runtime.generation.engine import Control
from app.runtime.generation.request import Advance, Arrival, EngineState, GenerationRequest, Grammar, Ranked
from app.runtime.generation.sampler import Chosen
from app.runtime.generation.sequence import Sequence

NOT_FINITE = "the model computed numbers that are not finite (NaN or infinity)"
FAILED = "vLLM ended this text with an error; the server's log has the details"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one step of vLLM's brought for one text. ranked: of each token, if asked for. prompt_ranked: of the prompt
    from its second token on. num_cached: tokens of the prompt that were not computed again, None: told before.
    is_over: it computes the text no further. error: why it could not."""

    key: int
    tokens: Ordered[int] = ()
    ranked: Ordered[Ranked] = ()
    prompt_ranked: Ordered[Ranked] = ()
    num_cached: int | None = None
    num_preemptions: int = 0
    is_over: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """kv_usage: of the memory for keys and values, 0 to 1."""

    parts: Ordered[Part] = ()
    num_running: int = 0
    kv_usage: float = 0.0


class Core(Protocol):
    """vLLM's engine without its servers. Used on the device thread."""

    def add(
        self,
        key: int,
        prompt: Ordered[int],
        arguments: SamplingArguments,
        *,
        banned_runs: Ordered[Ordered[int]],
        grammar: Grammar | None,
    ) -> None:
        """Raises InvalidInput for what vLLM does not take."""
        ...

    def remove(self, key: int) -> None:
        """Nobody waits for it, or it is at its end."""
        ...

    def step(self) -> Step: ...


class VllmEngine:
    """Implements `WholeEngine`. Owned by the device thread. tokenizer: only decodes. longest: tokens of one text, with
    its answer. limit_tokens: of keys and values, all texts together. pool: bytes that they may yet take, by device."""

    def __init__(
        self,
        core: Core,
        tokenizer: Any,
        *,
        end_ids: Ordered[int],
        longest: int,
        limit_tokens: int,
        pool: dict[str, int],
    ) -> None:
        self._core = core
        self._end_ids = end_ids
        self._account = Account(tokenizer, end_ids)
        self._texts: dict[int, Sequence] = {}
        self._step = Step()
        self._num_preemptions = 0
        self._longest = longest
        self.limit_tokens = limit_tokens
        self.pool = pool

    @property
    def longest(self) -> int:
        return self._longest

    def run(self, control: Control) -> None:
        """An error of vLLM's own is raised: what state it leaves is not known."""
        while True:
            refused = [refusal for arrival in control.arrivals() if (refusal := self._add(arrival)) is not None]
            for key in control.departures():
                if self._texts.pop(key, None) is not None:
                    self._core.remove(key)
            if refused:
                control.emit(refused, self._state())
            if not self._texts:
                return
            advances = self._advanced()
            control.emit(advances, self._state())
            if control.is_wanted_elsewhere():
                return

    def _add(self, arrival: Arrival) -> Advance | None:
        """Why vLLM does not take it, if it does not."""
        request: GenerationRequest = arrival.item.features
        try:
            self._core.add(
                arrival.key,
                request.prompt,
                arguments_of(request, self._end_ids),
                banned_runs=request.sampling.banned_runs,
                grammar=request.grammar,
            )
        except InvalidInput as error:
            return Advance(arrival.key, error=error)
        self._texts[arrival.key] = self._account.begin(arrival)
        return None

    def _advanced(self) -> list[Advance]:
        self._step = self._core.step()
        self._account.num_steps += 1
        advances: list[Advance] = []
        for part in self._step.parts:
            sequence = self._texts.get(part.key)
            if sequence is None:
                continue
            new = self._advances_of(sequence, part)
            if new and new[-1].is_last:
                del self._texts[part.key]
                if not part.is_over:
                    self._core.remove(part.key)
            advances += new
        return advances

    def _advances_of(self, sequence: Sequence, part: Part) -> list[Advance]:
        self._num_preemptions += part.num_preemptions
        if part.num_cached is not None:
            sequence.num_cached = part.num_cached
        if part.prompt_ranked:
            sequence.prompt_ranked += [Ranked(sequence.tokens[0]), *part.prompt_ranked]
        if part.error is not None or (part.is_over and not part.tokens):
            return [Advance(sequence.key, error=BackendFailed(part.error or FAILED))]
        if part.tokens and sequence.request.max_tokens == 0:
            return [self._account.finish(sequence, "length", None)]
        advances: list[Advance] = []
        for place, token in enumerate(part.tokens):
            ranked = part.ranked[place] if part.ranked else None
            advances.append(self._account.advance(sequence, Chosen(token, ranked)))
            if advances[-1].is_last:
                return advances
        if part.is_over:  # at a limit of vLLM's own
            advances[-1] = self._account.finish(sequence, "length", None)
        return advances

    def _state(self) -> EngineState:
        num_running = min(self._step.num_running, len(self._texts))
        return self._account.state(
            num_running=num_running,
            num_waiting=len(self._texts) - num_running,
            num_used_tokens=round(self._step.kv_usage * self.limit_tokens),
            limit_tokens=self.limit_tokens,
            num_preemptions=self._num_preemptions,
        )
