"""What a text is generated from, and what came of it: the nouns that prepare, engine and finish share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from app.fairness import NOBODY, Flow
from app.runtime.base import Item

DEFAULT_MAX_NEW_TOKENS = 256


class Matcher(Protocol):
    """Follows one sequence through the grammar of its answer."""

    def fill(self, mask: np.ndarray) -> None:
        """mask: int32 [words of 32 tokens], a set bit for each token that may come next."""
        ...

    def accept(self, token: int) -> bool:
        """Whether the token was allowed."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether nothing but an end token may follow."""
        ...


class Grammar(Protocol):
    def matcher(self) -> Matcher: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. temperature 0: the likeliest. top_k 0, top_p 1, min_p 0, typical_p 1 and the
    penalties' neutral values change nothing.

    repetition_penalty is of the prompt's and the answer's tokens (CTRL: logits divided, or multiplied below 0);
    presence and frequency penalties are of the answer's alone (OpenAI: subtracted). bias: by token id. banned_runs:
    runs of tokens of which the last may not follow the others. num_logprobs, num_prompt_logprobs: how many
    alternatives are told beside each token, None: not even its own log-probability. no_repeat_ngram_size: no run of so
    many tokens twice, the prompt's included. epsilon_cutoff, eta_cutoff: no token of a lower probability, the latter by
    the entropy of all (Hewitt et al., arXiv 2210.15191).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()
    allowed: tuple[int, ...] = ()
    banned_runs: tuple[tuple[int, ...], ...] = ()
    no_repeat_ngram_size: int = 0
    num_logprobs: int | None = None
    num_prompt_logprobs: int | None = None

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    def of_choice(self, index: int) -> Sampling:
        """That of one of several answers: they are not to be the same, and the first is as if it were alone."""
        return self if self.seed is None or index == 0 else replace(self, seed=self.seed + index)

    @property
    def changes_logits(self) -> bool:
        """Whether anything but the temperature and what follows it stands between logits and choice."""
        return bool(
            self.repetition_penalty != 1
            or self.presence_penalty
            or self.frequency_penalty
            or self.bias
            or self.allowed
            or self.banned_runs
            or self.no_repeat_ngram_size
        )

    @property
    def needs_history(self) -> bool:
        return bool(self.repetition_penalty != 1 or self.presence_penalty or self.frequency_penalty)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One sequence to be. prompt: token ids. read: those that an encoder reads; the prompt is then what its answer
    begins with. forced: by how many new tokens there are, what the next one is whatever the model says.

    stops: texts that end it. stop_ids: tokens that end it beside the model's own. values: keywords of `generate` that
    only it knows (beams). inputs: what the model is given in the place of the bare prompt, files included: one row.
    group: requests of equal groups may share a call of `generate`. adapter: an `Adapter` of app/runtime/adapters.py.
    """

    prompt: Sequence[int]
    read: Sequence[int] | None = None
    forced: Mapping[int, int] = field(default_factory=dict)
    sampling: Sampling = Sampling()
    max_tokens: int = DEFAULT_MAX_NEW_TOKENS
    min_tokens: int = 0
    stops: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    ignores_eos: bool = False
    grammar: Grammar | None = None
    adapter: Any = None
    values: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] | None = None
    group: Hashable = None

    @property
    def num_prompt_tokens(self) -> int:
        """What the client is told that its prompt was."""
        return len(self.prompt if self.read is None else self.read)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A token with its log-probability, from the model's own logits, and the likeliest at its place, best first.

    token: as generated; logprob: None for a prompt's first token, which nothing predicts.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One complete sequence: the new tokens, with the token that ended them.

    finish_reason: eos_token, stop_sequence or length, as Text Generation Inference says it. stop_reason: the stop text
    or stop token that ended it. ranked: of each token, if log-probabilities were asked for. prompt_ranked: of the
    prompt's. num_cached: tokens of the prompt that were not computed again. num_prompt: its tokens.
    """

    tokens: list[int]
    finish_reason: str
    stop_reason: str | int | None = None
    ranked: list[Ranked] | None = None
    prompt_ranked: list[Ranked] | None = None
    num_prompt: int = 0
    num_cached: int = 0
    seed: int | None = None

    @property
    def logprobs(self) -> list[float] | None:
        return None if self.ranked is None else [one.logprob or 0.0 for one in self.ranked]


def num_generated_in(output: Generated | Sequence[Generated]) -> int:
    """Tokens of an `Advance.output`: a sequence, or those that a search found."""
    found = [output] if isinstance(output, Generated) else output
    return sum(len(one.tokens) for one in found)


@dataclass(frozen=True, slots=True)
class Advance:
    """What one step added to one sequence. key: as it was given to the engine. output: when it is complete; error:
    what ended it instead."""

    key: int
    tokens: Sequence[int] = ()
    ranked: Sequence[Ranked] = ()
    output: Any = None
    error: BaseException | None = None
    num_cached: int = 0

    @property
    def is_last(self) -> bool:
        return self.output is not None or self.error is not None


@dataclass(frozen=True, slots=True)
class Arrival:
    """key: of the caller's, unlike any other that is on its way. flow, weight: whose it is, among those that wait."""

    key: int
    item: Item  # features: a GenerationRequest
    flow: Flow = NOBODY
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """For the metrics: what is on its way, and counts since the engine was made. num_used_tokens, limit_tokens: of the
    memory for keys and values."""

    num_running: int = 0
    num_waiting: int = 0
    num_used_tokens: int = 0
    limit_tokens: int = 0
    num_steps: int = 0
    num_preemptions: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0

    def __add__(self, other: EngineState) -> EngineState:
        return EngineState(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})
