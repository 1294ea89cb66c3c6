"""One text on its way: the only mutable state of a request while the engine has it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from app.fairness import NOBODY, Flow
from app.runtime.generation.request import GenerationRequest, Matcher, Ranked


@dataclass(eq=False, slots=True)
class Sequence:
    """tokens: the prompt's and the new ones. num_computed: how many of them have keys and values in `place`, a row or
    pages. num_cached: how many of the prompt's came from other sequences. order: of arrival; those that came first go
    first. generator, history: the sampler's. flow, weight: whose it is."""

    key: int
    request: GenerationRequest
    order: int
    tokens: list[int]
    num_prompt: int
    num_computed: int = 0
    num_cached: int = 0
    place: Any = None
    matcher: Matcher | None = None
    ranked: list[Ranked] = field(default_factory=list)
    prompt_ranked: list[Ranked] = field(default_factory=list)
    was_admitted: bool = False
    generator: Any = None
    history: Any = None
    flow: Flow = NOBODY
    weight: float = 1.0

    @property
    def kind(self) -> Hashable:
        """Keys and values are of use to sequences of the same kind alone: they are the adapter's."""
        return None if self.request.adapter is None else self.request.adapter.key

    @property
    def num_new(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def num_missing(self) -> int:
        """Tokens that are to be computed before the next one can be chosen."""
        return len(self.tokens) - self.num_computed

    @property
    def num_left(self) -> int:
        """New tokens that may still come."""
        return self.request.max_tokens - self.num_new
