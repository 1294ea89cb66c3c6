"""The engine for models that no rows of keys and values fit: `model.generate`, with our choice of each token.

Requests of equal groups share a call, each with its own parameters; they stream, and a call goes on without those that
nobody waits for. What comes meanwhile waits for the next call. A beam search follows several texts at once: its tokens
are known at the end, and those share a call that are searched alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Ordered
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from app.errors import InvalidInput
from app.fairness import FairQueue
from app.runtime.adapters import Adapter, Adapters
from app.runtime.generation.account import Account
from app.runtime.generation.engine import Control
from app.runtime.generation.generator import Generated as SearchedRow
from app.runtime.generation.generator import GenerationOptions, Generator
from app.runtime.generation.request import (
    DEFAULT_MAX_NEW_TOKENS,
    Advance,
    EngineState,
    Generated,
    GenerationRequest,
    Ranked,
)
from app.runtime.generation.sequence import Sequence
from app.runtime.generation.watching import Abandoned
from app.runtime.stacking import stack

_OURS: dict[str, Any] = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
}
"""What a request says for itself. For what a call leaves out transformers takes the model's own generation_config: so
of forced, suppressed and bad tokens the model's own stay."""


class GenerateEngine:
    """Owned by the device thread. tokenizer: only decodes. max_rows, max_tokens: of one call, padding included."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        *,
        end_ids: Ordered[int],
        max_rows: int,
        max_tokens: int,
        adapters: Adapters | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._max_rows = max_rows
        self._max_tokens = max_tokens
        self._pad_id: int = getattr(tokenizer, "pad_token_id", None) or 0
        self._adapters = adapters
        self._is_stateful = bool(getattr(model, "_is_stateful", False))
        self._account = Account(tokenizer, end_ids)
        self._generator = Generator(model, tokenizer)
        self._waiting: FairQueue[Sequence] = FairQueue()
        self._again: deque[Sequence] = deque()  # they failed together, and are tried one by one before all that wait
        self._running: dict[int, Sequence] = {}

    def run(self, control: Control) -> None:
        while True:
            self._listen(control)
            call = self._next_call()
            if not call:
                return
            try:
                with self._adapted(call[0].request.adapter):
                    advances = self._beams(call, control) if call[0].request.values else self._generate(call, control)
            except Exception as error:
                if control.is_fatal(error):
                    raise
                advances = self._failed(error)
            finally:
                self._running.clear()
            if advances:
                control.emit(advances, self._state())
            if control.is_wanted_elsewhere():
                return

    def _adapted(self, adapter: Adapter | None) -> AbstractContextManager[None]:
        return nullcontext() if self._adapters is None else self._adapters.active(adapter)

    def _listen(self, control: Control) -> None:
        for arrival in control.arrivals():
            sequence = self._account.begin(arrival)
            self._waiting.push(sequence, arrival.flow, weight=arrival.weight, cost=_cost(sequence.request))
        gone = set(control.departures())
        if gone:
            self._waiting.remove([place for place in self._waiting.in_order() if place.item.key in gone])
            self._again = deque(one for one in self._again if one.key not in gone)
            for key in gone:
                self._running.pop(key, None)

    def _next_call(self) -> list[Sequence]:
        """The first in fair order and those that may go with it, of like length; none: nothing waits."""
        call = [self._again.popleft()] if self._again else self._take_call()
        self._running = {one.key: one for one in call}
        return call

    def _take_call(self) -> list[Sequence]:
        found = self._waiting.first()
        if found is None:
            self._waiting.time.rest()
            return []
        rows_ahead = self._max_rows * found[1].cost / found[1].weight
        waiting = list(self._waiting.in_order(ahead=rows_ahead))
        first = waiting[0].item.request
        mates = [place for place in waiting if self._goes_with(place.item.request, first)]
        length = first.num_prompt_tokens
        mates.sort(key=lambda one: -1 if one is waiting[0] else abs(one.item.request.num_prompt_tokens - length))
        call = mates[: self._max_rows]
        costs = accumulate((_cost(place.item.request) for place in call), max)
        fitting = sum(num_rows * cost <= self._max_tokens for num_rows, cost in enumerate(costs, start=1))
        return [self._waiting.take(place) for place in call[: max(1, fitting)]]

    def _goes_with(self, one: GenerationRequest, other: GenerationRequest) -> bool:
        if one is other:
            return True
        if self._is_stateful and len(one.prompt) != len(other.prompt):
            return False  # padding would become a part of the state
        if one.group != other.group or one.adapter != other.adapter:
            return False
        return one.values == other.values and (not one.values or _options(one).group == _options(other).group)

    def _failed(self, error: BaseException) -> list[Advance]:
        """One that failed alone fails; of several each is tried again by itself, if nobody has read of it yet."""
        if len(self._running) == 1 or any(one.num_new for one in self._running.values()):
            return [Advance(key, error=error) for key in self._running]
        self._again.extendleft(reversed(self._running.values()))
        return []

    def _generate(self, call: list[Sequence], control: Control) -> list[Advance]:
        with torch.inference_mode():
            for one in call:
                if one.request.sampling.num_prompt_logprobs is not None:
                    self._rank_prompt(one)
        over = [one for one in call if one.request.max_tokens == 0]
        if over:
            for one in over:
                self._running.pop(one.key, None)
            control.emit([self._account.finish(one, "length", None) for one in over], self._state())
        call = [one for one in call if one.request.max_tokens]
        if not call:
            return []
        choice = _Choice(self, call, control)
        longest = max(one.request.max_tokens for one in call)
        own = self._model.generation_config
        config = GenerationConfig(
            max_new_tokens=longest + 1,  # `_Ends` ends a row: at its own last token transformers might force another
            do_sample=False,
            pad_token_id=own.pad_token_id or 0,
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=own.decoder_start_token_id,
            **_OURS,
        )
        if own.min_new_tokens is not None:
            config.min_new_tokens = 0
        with torch.inference_mode():
            try:
                self._model.generate(
                    **self._inputs(call),
                    generation_config=config,
                    logits_processor=LogitsProcessorList([choice]),
                    stopping_criteria=StoppingCriteriaList([choice.ends()]),
                )
            except Abandoned:
                pass
        return []

    def _rank_prompt(self, sequence: Sequence) -> None:
        """By a forward of its own: `generate` tells the logits of what is new alone."""
        if self._model.config.is_encoder_decoder:
            text = "this model reads its prompt in an encoder, which ranks no tokens"
            raise InvalidInput(f"parameters.prompt_logprobs: {text}.", param="parameters.prompt_logprobs")
        tokens = sequence.tokens[: sequence.num_prompt]
        sequence.prompt_ranked[:] = [Ranked(tokens[0])]
        if len(tokens) > 1:
            logits = self._model(**self._inputs([sequence])).logits[0, :-1]
            num_top = sequence.request.sampling.num_prompt_logprobs or 0
            sequence.prompt_ranked += self._account.sampler.rank(logits, tokens[1:], num_top)

    def _inputs(self, call: list[Sequence]) -> dict[str, Any]:
        """Prompts padded on the left, what an encoder reads on the right; what has inputs of its own has them of equal
        shapes."""
        device = self._model.device
        if call[0].request.inputs is not None:
            return stack([dict(one.request.inputs or {}) for one in call], device, self._model.dtype)
        is_read = call[0].request.read is not None
        given = [list(one.request.read or one.request.prompt) for one in call]
        width = max(map(len, given))
        rows, mask = [], []
        for tokens in given:
            padding = [self._pad_id] * (width - len(tokens))
            rows.append(tokens + padding if is_read else padding + tokens)
            ones, zeros = [1] * len(tokens), [0] * len(padding)
            mask.append(ones + zeros if is_read else zeros + ones)
        return {
            "input_ids": torch.tensor(rows, device=device),
            "attention_mask": torch.tensor(mask, device=device),
        }

    def _beams(self, call: list[Sequence], control: Control) -> list[Advance]:
        """What is left in the midst of it has no answer."""
        watch = _Searching(self, call, control)
        options = [_options(one.request) for one in call]
        searched = self._generator.generate(self._inputs(call), options, watch)
        advances = []
        for sequence, rows in zip(call, searched, strict=True):
            if sequence.key in self._running and rows:
                self._account.count_searched(sequence.request, sum(len(row.tokens) for row in rows))
                advances.append(Advance(sequence.key, output=[_generated(sequence.request, row) for row in rows]))
        return advances

    # What a call asks at each step

    def step(self, call: list[Sequence], logits: torch.Tensor, control: Control) -> list[int | None]:
        """The next token of each row; None for rows that are at their end. logits: [rows, vocabulary]."""
        self._account.num_steps += 1
        alive = [index for index, one in enumerate(call) if one.key in self._running]
        chosen = self._account.sampler.choose(logits[alive], [call[index] for index in alive])
        tokens: list[int | None] = [None] * len(call)
        advances = []
        for index, one in zip(alive, chosen, strict=True):
            tokens[index] = one.token
            advance = self._account.advance(call[index], one)
            if advance.is_last:
                del self._running[call[index].key]
            advances.append(advance)
        control.emit(advances, self._state())
        return tokens

    def searched_on(self, control: Control) -> None:
        """A step without a token that is certain."""
        self._account.num_steps += 1
        control.emit([], self._state())

    def who_goes_on(self, call: list[Sequence], control: Control) -> list[bool]:
        self._listen(control)
        return [one.key in self._running for one in call]

    def _state(self) -> EngineState:
        return self._account.state(num_running=len(self._running), num_waiting=len(self._waiting) + len(self._again))


def _cost(request: GenerationRequest) -> int:
    """Tokens that a row is likely to have: most answers end long before the most that they may have."""
    return request.num_prompt_tokens + min(request.max_tokens, DEFAULT_MAX_NEW_TOKENS)


def _options(request: GenerationRequest) -> GenerationOptions:
    return GenerationOptions(
        values=dict(request.values),
        max_new_tokens=request.max_tokens,
        stop=request.stops,
        seed=request.sampling.seed,
        wants_logprobs=request.sampling.num_logprobs is not None,
    )


def _generated(request: GenerationRequest, row: SearchedRow) -> Generated:
    ranked = None
    if row.logprobs is not None:
        ranked = [Ranked(token, logprob) for token, logprob in zip(row.tokens, row.logprobs, strict=True)]
    return Generated(
        tokens=row.tokens,
        finish_reason=row.finish_reason,
        ranked=ranked,
        num_prompt=request.num_prompt_tokens,
        seed=request.sampling.seed,
    )


class _Searching:
    """Implements `Watch` for a beam search."""

    def __init__(self, engine: GenerateEngine, call: list[Sequence], control: Control) -> None:
        self._engine = engine
        self._call = call
        self._control = control
        self._goes_on = [True] * len(call)

    def step(self) -> None:
        self._engine.searched_on(self._control)
        self._goes_on = self._engine.who_goes_on(self._call, self._control)

    def is_cancelled(self, index: int) -> bool:
        return not self._goes_on[index]

    def write(self, index: int, tokens: Ordered[int], logprobs: Ordered[float] = ()) -> None:
        pass


class _Choice(LogitsProcessor):  # type: ignore[misc]  # transformers' types are not looked at
    """Has the engine choose, and leaves `generate` no other choice."""

    def __init__(self, engine: GenerateEngine, call: list[Sequence], control: Control) -> None:
        self._engine = engine
        self._call = call
        self._control = control

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = self._engine.step(self._call, scores, self._control)
        forced = torch.full_like(scores, -torch.inf)
        for index, token in enumerate(tokens):
            forced[index, token or 0] = 0.0
        return forced

    def ends(self) -> StoppingCriteria:
        return _Ends(self._engine, self._call, self._control)


class _Ends(StoppingCriteria):  # type: ignore[misc]
    """Rows that are at their end, or that nobody waits for. Raises Abandoned when that is all of them."""

    def __init__(self, engine: GenerateEngine, call: list[Sequence], control: Control) -> None:
        self._engine = engine
        self._call = call
        self._control = control

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        goes_on = self._engine.who_goes_on(self._call, self._control)
        if not any(goes_on):
            raise Abandoned
        return torch.tensor([not one for one in goes_on], device=input_ids.device)
