"""The next token of each sequence of a step, each by its own parameters, computed for all of them together."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import numpy as np
import torch

from app.errors import BackendFailed, InvalidInput, PipeserveError
from app.runtime.generation.request import Ranked
from app.runtime.generation.sequence import Sequence

WINDOW = 512
"""How many of the likeliest tokens are looked at before all of a large vocabulary are sorted."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """ranked: if log-probabilities were asked for. error: why no token could be chosen."""

    token: int
    ranked: Ranked | None = None
    error: PipeserveError | None = None


@dataclass(eq=False, slots=True)
class _History:
    """What a sequence's penalties are about. prompt: bool [vocabulary]; counts: float [vocabulary], of new tokens."""

    prompt: torch.Tensor
    counts: torch.Tensor
    num_counted: int = 0

    def catch_up(self, sequence: Sequence) -> None:
        for token in sequence.tokens[sequence.num_prompt + self.num_counted :]:
            self.counts[token] += 1
        self.num_counted = sequence.num_new


class Sampler:
    """Owned by the device thread. end_ids: the model's end tokens."""

    def __init__(self, end_ids: Ordered[int]) -> None:
        self._end_ids = list(end_ids)
        self._chance = torch.Generator()
        self._chance.seed()

    def choose(self, logits: torch.Tensor, sequences: Ordered[Sequence]) -> list[Chosen]:
        """logits: [sequences, vocabulary], the model's own. A row that is not finite, or in which a grammar allows
        nothing, is that sequence's error."""
        best_value, best = logits.max(-1)
        is_finite = best_value.isfinite().tolist()  # a maximum passes NaN on
        tokens = best.tolist()
        plain = [self._is_plain(sequence) for sequence in sequences]
        errors: dict[int, PipeserveError] = {}
        others = [index for index, one in enumerate(plain) if not one and is_finite[index]]
        if others:
            chosen, failed = self._choose(logits[others].float(), [sequences[index] for index in others])
            for index, token in zip(others, chosen, strict=True):
                tokens[index] = token
            errors = {others[place]: error for place, error in failed.items()}
        ranked = self._ranked(logits, sequences, tokens)
        for index, finite in enumerate(is_finite):
            if not finite:
                errors[index] = BackendFailed("the model computed numbers that are not finite (NaN or infinity)")
        return [Chosen(token, ranked.get(index), errors.get(index)) for index, token in enumerate(tokens)]

    def rank(self, logits: torch.Tensor, tokens: Ordered[int], num_top: int) -> list[Ranked]:
        """The log-probability of each token at its place, and the likeliest ones. logits: [tokens, vocabulary]."""
        logprobs = logits.float().log_softmax(-1)
        own = logprobs.gather(-1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
        if not num_top:
            return [Ranked(token, logprob) for token, logprob in zip(tokens, own, strict=True)]
        values, ids = logprobs.topk(num_top, dim=-1)
        tops = [
            tuple(zip(row, row_values, strict=True))
            for row, row_values in zip(ids.tolist(), values.tolist(), strict=True)
        ]
        return [Ranked(token, logprob, top) for token, logprob, top in zip(tokens, own, tops, strict=True)]

    def _ranked(self, logits: torch.Tensor, sequences: Ordered[Sequence], tokens: Ordered[int]) -> dict[int, Ranked]:
        wanted = [index for index, one in enumerate(sequences) if one.request.sampling.num_logprobs is not None]
        if not wanted:
            return {}
        num_top = max(sequences[index].request.sampling.num_logprobs or 0 for index in wanted)
        ranked = self.rank(logits[wanted], [tokens[index] for index in wanted], num_top)
        return {
            index: Ranked(one.token, one.logprob, one.top[: sequences[index].request.sampling.num_logprobs or 0])
            for index, one in zip(wanted, ranked, strict=True)
        }

    def _is_plain(self, sequence: Sequence) -> bool:
        """Whether its next token is the likeliest, whatever came before."""
        sampling = sequence.request.sampling
        return (
            sampling.is_greedy
            and not sampling.changes_logits
            and sequence.matcher is None
            and sequence.num_new >= sequence.request.min_tokens
            and sequence.num_new not in sequence.request.forced
        )

    def _choose(
        self, logits: torch.Tensor, sequences: Ordered[Sequence]
    ) -> tuple[list[int], dict[int, PipeserveError]]:
        """logits: float32, changed in place."""
        self._change(logits, sequences)
        failed = self._constrain(logits, sequences)
        tokens = logits.argmax(-1)
        drawn = [
            index for index, one in enumerate(sequences) if not one.request.sampling.is_greedy and index not in failed
        ]
        if drawn:
            tokens[drawn] = self._draw(logits[drawn], [sequences[index] for index in drawn])
        return tokens.tolist(), failed

    # What stands between the model's logits and the choice

    def _change(self, logits: torch.Tensor, sequences: Ordered[Sequence]) -> None:
        self._penalise(logits, sequences)
        for row, sequence in zip(logits, sequences, strict=True):
            sampling = sequence.request.sampling
            if sampling.bias:
                ids, values = zip(*sampling.bias, strict=True)
                row[list(ids)] += torch.tensor(values, device=row.device)
            if sampling.allowed:
                kept = list(sampling.allowed)
                values_kept = row[kept]
                row.fill_(-torch.inf)
                row[kept] = values_kept
            if sequence.num_new < sequence.request.min_tokens:
                row[[*self._end_ids, *sequence.request.stop_ids]] = -torch.inf
            for run in sampling.banned_runs:
                before = run[:-1]
                if not before or tuple(sequence.tokens[sequence.num_prompt :][-len(before) :]) == before:
                    row[run[-1]] = -torch.inf
            if sampling.no_repeat_ngram_size and (repeats := _repeats(sequence.tokens, sampling.no_repeat_ngram_size)):
                row[repeats] = -torch.inf
            if (forced := sequence.request.forced.get(sequence.num_new)) is not None:
                row.fill_(-torch.inf)
                row[forced] = 0.0

    def _penalise(self, logits: torch.Tensor, sequences: Ordered[Sequence]) -> None:
        rows = [index for index, one in enumerate(sequences) if one.request.sampling.needs_history]
        if not rows:
            return
        histories = [self._history(sequences[index], logits) for index in rows]
        counts = torch.stack([one.counts for one in histories])
        prompts = torch.stack([one.prompt for one in histories])
        samplings = [sequences[index].request.sampling for index in rows]

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, device=logits.device)[:, None]

        values = logits[rows]
        repetition = column([one.repetition_penalty for one in samplings])
        repeated = torch.where(values > 0, values / repetition, values * repetition)
        values = torch.where(prompts | (counts > 0), repeated, values)
        values -= column([one.presence_penalty for one in samplings]) * (counts > 0)
        values -= column([one.frequency_penalty for one in samplings]) * counts
        logits[rows] = values

    def _history(self, sequence: Sequence, logits: torch.Tensor) -> _History:
        if sequence.history is None:
            size, device = logits.shape[-1], logits.device
            prompt = torch.zeros(size, dtype=torch.bool, device=device)
            prompt[sequence.tokens[: sequence.num_prompt]] = True
            sequence.history = _History(prompt, torch.zeros(size, device=device))
        history: _History = sequence.history
        history.catch_up(sequence)
        return history

    def _constrain(self, logits: torch.Tensor, sequences: Ordered[Sequence]) -> dict[int, PipeserveError]:
        rows = [index for index, one in enumerate(sequences) if one.matcher is not None]
        if not rows:
            return {}
        size = logits.shape[-1]
        masks = np.zeros((len(rows), (size + 31) // 32), dtype=np.int32)
        for mask, index in zip(masks, rows, strict=True):
            matcher = sequences[index].matcher
            assert matcher is not None
            matcher.fill(mask)
        bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")[:, :size]
        allowed = torch.from_numpy(bits).to(logits.device).bool()
        logits[rows] = logits[rows].masked_fill(~allowed, -torch.inf)
        is_possible = (logits[rows] > -torch.inf).any(-1).tolist()
        param = "parameters.structure"
        text = (
            f"{param}: the answer cannot go on, because here its grammar allows none of the model's tokens, or is more"
            " work than one token may be."
        )
        possible = zip(rows, is_possible, strict=True)
        return {index: InvalidInput(text, param=param) for index, one in possible if not one}

    # Chance

    def _draw(self, logits: torch.Tensor, sequences: Ordered[Sequence]) -> torch.Tensor:
        samplings = [one.request.sampling for one in sequences]

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, device=logits.device)[:, None]

        logits = logits / column([one.temperature for one in samplings])
        typical = [index for index, one in enumerate(samplings) if one.typical_p < 1]
        if typical:
            masses = column([samplings[index].typical_p for index in typical])
            logits[typical] = _only_typical(logits[typical], masses)
        cut = [index for index, one in enumerate(samplings) if one.epsilon_cutoff or one.eta_cutoff]
        if cut:
            epsilons = column([samplings[index].epsilon_cutoff for index in cut])
            etas = column([samplings[index].eta_cutoff for index in cut])
            logits[cut] = _without_unlikely(logits[cut], epsilons, etas)
        size = logits.shape[-1]
        top_k = column([float(one.top_k if 0 < one.top_k < size else size) for one in samplings])
        top_p = column([one.top_p for one in samplings])
        min_p = column([one.min_p for one in samplings])
        values, ids = _likeliest(logits, top_k, top_p, min_p)
        places = torch.arange(values.shape[-1], device=values.device)
        values = values.masked_fill(places >= top_k, -torch.inf)
        probabilities = values.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        is_out = (before >= top_p) | (probabilities < min_p * probabilities[:, :1])
        is_out[:, 0] = False
        probabilities = probabilities.masked_fill(is_out, 0.0)
        heap = probabilities.cumsum(-1)
        chance = torch.tensor([self._chance_of(one) for one in sequences], device=logits.device)[:, None]
        drawn = torch.searchsorted(heap, chance * heap[:, -1:], right=True)
        last = (probabilities > 0).sum(-1, keepdim=True) - 1
        return ids.gather(-1, torch.minimum(drawn, last))[:, 0]

    def _chance_of(self, sequence: Sequence) -> float:
        """In [0, 1): of the sequence's own generator if it has a seed."""
        seed = sequence.request.sampling.seed
        if seed is None:
            return float(torch.rand((), generator=self._chance))
        if sequence.generator is None:
            sequence.generator = torch.Generator()
            sequence.generator.manual_seed(seed)
        return float(torch.rand((), generator=sequence.generator))


def _likeliest(
    logits: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, min_p: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and ids in falling order: as many as can be drawn, at least; of most models and parameters that is a small
    part of the vocabulary."""
    size = logits.shape[-1]
    if size > 2 * WINDOW:
        values, ids = logits.topk(WINDOW, dim=-1)
        total = logits.logsumexp(-1, keepdim=True)
        mass = (values - total).exp().sum(-1, keepdim=True)
        is_enough = (top_k <= WINDOW) | (mass >= top_p) | ((values[:, -1:] - values[:, :1]).exp() < min_p)
        # Without a limit every token may be drawn, were it as unlikely as can be.
        if bool((is_enough & ((top_k < size) | (top_p < 1) | (min_p > 0))).all()):
            return values, ids
    values, ids = logits.sort(dim=-1, descending=True)
    return values, ids


def _only_typical(logits: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """Locally typical sampling (Meister et al., arXiv 2202.00666): the tokens whose surprise is nearest to the expected
    one, as many as have this mass."""
    logprobs = logits.log_softmax(-1)
    probabilities = logprobs.exp()
    entropy = -(probabilities * logprobs.nan_to_num(neginf=0.0)).sum(-1, keepdim=True)
    distance = (-logprobs - entropy).abs()
    order = distance.argsort(-1)
    ordered = probabilities.gather(-1, order)
    is_out = ordered.cumsum(-1) - ordered >= mass
    return logits.masked_fill(is_out.scatter(-1, order, is_out), -torch.inf)


def _without_unlikely(logits: torch.Tensor, epsilons: torch.Tensor, etas: torch.Tensor) -> torch.Tensor:
    """The likeliest stays whatever its probability."""
    logprobs = logits.log_softmax(-1)
    probabilities = logprobs.exp()
    entropy = -(probabilities * logprobs.nan_to_num(neginf=0.0)).sum(-1, keepdim=True)
    limit = torch.maximum(epsilons, torch.minimum(etas, etas.sqrt() * (-entropy).exp()))
    is_out = probabilities < limit
    is_out.scatter_(-1, logits.argmax(-1, keepdim=True), False)
    return logits.masked_fill(is_out, -torch.inf)


def _repeats(tokens: Ordered[int], size: int) -> list[int]:
    """What would end a run of `size` tokens that was there before."""
    last = list(tokens[len(tokens) - size + 1 :])
    ends = range(size - 1, len(tokens))
    return [tokens[end] for end in ends if list(tokens[end - size + 1 : end]) == last]
