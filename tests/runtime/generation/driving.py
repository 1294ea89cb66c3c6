"""Drives an engine as a worker does, with arrivals and departures at given steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from app.runtime.base import Item
from app.runtime.generation.engine import ContinuousEngine, Engine
from app.runtime.generation.request import Advance, Arrival, EngineState, GenerationRequest
from app.runtime.generation.runner import RowsRunner, Runner


class Script:
    """A `Control`. arrivals, departures: by the number of steps that were computed before."""

    def __init__(
        self, arrivals: Mapping[int, Sequence[Arrival]], departures: Mapping[int, Sequence[int]] | None = None
    ) -> None:
        self._arrivals = dict(arrivals)
        self._departures = dict(departures or {})
        self.num_steps = 0
        self.advances: dict[int, list[Advance]] = defaultdict(list)
        self.first_step: dict[int, int] = {}
        self.last_step: dict[int, int] = {}
        self.states: list[EngineState] = []

    @property
    def is_over(self) -> bool:
        return not self._arrivals

    def arrivals(self) -> Sequence[Arrival]:
        due = [step for step in self._arrivals if step <= self.num_steps]
        return [arrival for step in due for arrival in self._arrivals.pop(step)]

    def departures(self) -> Sequence[int]:
        return self._departures.pop(self.num_steps, ())

    def emit(self, advances: Sequence[Advance], state: EngineState) -> None:
        self.num_steps += 1
        self.states.append(state)
        for advance in advances:
            self.advances[advance.key].append(advance)
            self.first_step.setdefault(advance.key, self.num_steps)
            self.last_step[advance.key] = self.num_steps

    def is_wanted_elsewhere(self) -> bool:
        return False

    def is_fatal(self, error: BaseException) -> bool:
        return False

    def output(self, key: int) -> Any:
        """Raises what ended it, if that was an error."""
        last = self.advances[key][-1]
        if last.error is not None:
            raise last.error
        return last.output

    def drive(self, engine: Engine) -> Script:
        """Until all is answered; steps without work pass by themselves."""
        while True:
            engine.run(self)
            if self.is_over:
                return self
            self.num_steps += 1


def arrival(key: int, request: GenerationRequest) -> Arrival:
    return Arrival(key, Item(request, len(request.prompt)))


def engine_of(
    model: PreTrainedModel, tokenizer: Any = None, runner: Runner | None = None, **options: Any
) -> ContinuousEngine:
    options = {"end_ids": (), "limit_tokens": 4096, "max_length": 256, "max_sequences": 64, **options}
    return ContinuousEngine(runner or RowsRunner(model), tokenizer, **options)


def prompts_of(*lengths: int, vocabulary: int = 160) -> list[list[int]]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in lengths]


def by_generate(model: PreTrainedModel, prompt: Sequence[int], num_tokens: int, **options: Any) -> list[int]:
    """What `generate` makes of it alone, greedily."""
    ids = torch.tensor([list(prompt)])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, do_sample=False, **options
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens
