"""Where sequences advance: the token that was chosen, what it means for the sequence, and the counts of the metrics."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import Any

from app.runtime.generation.request import Advance, Arrival, EngineState, Generated, GenerationRequest
from app.runtime.generation.sampler import Chosen, Sampler
from app.runtime.generation.sequence import Sequence
from app.runtime.generation.stops import StopTexts


class Account:
    """Owned by the device thread. tokenizer: only decodes. end_ids: the model's end tokens."""

    def __init__(self, tokenizer: Any, end_ids: Ordered[int]) -> None:
        self.sampler = Sampler(end_ids)
        self._end_ids = frozenset(end_ids)
        self._stop_texts = StopTexts(tokenizer)
        self._num_arrived = 0
        self.num_steps = self.num_prompt_tokens = self.num_cached_tokens = self.num_generated_tokens = 0

    def begin(self, arrival: Arrival) -> Sequence:
        self._num_arrived += 1
        request: GenerationRequest = arrival.item.features
        return Sequence(
            key=arrival.key,
            request=request,
            order=self._num_arrived,
            tokens=list(request.prompt),
            num_prompt=len(request.prompt),
            matcher=None if request.grammar is None else request.grammar.matcher(),
            flow=arrival.flow,
            weight=arrival.weight,
        )

    def advance(self, sequence: Sequence, chosen: Chosen) -> Advance:
        if chosen.error is not None:
            return Advance(sequence.key, error=chosen.error)
        is_first = sequence.num_new == 0
        sequence.tokens.append(chosen.token)
        if chosen.ranked is not None:
            sequence.ranked.append(chosen.ranked)
        if sequence.matcher is not None and chosen.token not in self._end_ids:
            sequence.matcher.accept(chosen.token)
        if is_first:
            self.num_prompt_tokens += sequence.request.num_prompt_tokens
            self.num_cached_tokens += sequence.num_cached
        self.num_generated_tokens += 1
        end = self._end_of(sequence, chosen.token)
        if end is not None:
            return self.finish(sequence, *end)
        ranked = () if chosen.ranked is None else (chosen.ranked,)
        return Advance(sequence.key, (chosen.token,), ranked, num_cached=sequence.num_cached)

    def _end_of(self, sequence: Sequence, token: int) -> tuple[str, str | int | None] | None:
        """Why the sequence ends with this token, if it does."""
        request = sequence.request
        if token in request.stop_ids and sequence.num_new >= request.min_tokens:
            return "stop_sequence", token
        if token in self._end_ids and not request.ignores_eos:
            return "eos_token", None
        if request.stops and sequence.num_new >= request.min_tokens:
            stop = self._stop_texts.met(sequence.tokens[sequence.num_prompt :], request.stops)
            if stop is not None:
                return "stop_sequence", stop
        if sequence.matcher is not None and sequence.matcher.is_finished:
            return "eos_token", None
        return ("length", None) if sequence.num_left <= 0 else None

    def count_searched(self, request: GenerationRequest, num_tokens: int) -> None:
        """A beam search is over: what it read and wrote."""
        self.num_prompt_tokens += request.num_prompt_tokens
        self.num_generated_tokens += num_tokens

    def finish(self, sequence: Sequence, reason: str, stop: str | int | None) -> Advance:
        sampling = sequence.request.sampling
        new = sequence.tokens[sequence.num_prompt :]
        output = Generated(
            tokens=new,
            finish_reason=reason,
            stop_reason=stop,
            ranked=None if sampling.num_logprobs is None else sequence.ranked,
            prompt_ranked=None if sampling.num_prompt_logprobs is None else sequence.prompt_ranked,
            num_prompt=sequence.request.num_prompt_tokens,
            num_cached=sequence.num_cached,
            seed=sampling.seed,
        )
        return Advance(sequence.key, new[-1:], sequence.ranked[-1:], output=output, num_cached=sequence.num_cached)

    def state(self, **more: int) -> EngineState:
        return EngineState(
            num_steps=self.num_steps,
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens,
            num_generated_tokens=self.num_generated_tokens,
            **more,
        )
