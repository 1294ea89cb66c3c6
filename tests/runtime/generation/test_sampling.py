"""How the next token is chosen: each parameter by its own definition, alone and in company."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessor,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from app.runtime.generation.request import GenerationRequest, Sampling
from app.runtime.generation.sampler import WINDOW, Sampler
from app.runtime.generation.sequence import Sequence
from tests.runtime.generation.driving import Script, arrival, by_generate, engine_of, prompts_of
from tests.runtime.generation.families import build

SIZE = 40


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return build("llama")


def sequence_of(sampling: Sampling, prompt: list[int], new: list[int], **more: Any) -> Sequence:
    request = GenerationRequest(prompt=prompt, sampling=sampling, **more)
    return Sequence(0, request, 0, [*prompt, *new], len(prompt))


def logits_of(seed: int, size: int = SIZE) -> torch.Tensor:
    return torch.randn(1, size, generator=torch.Generator().manual_seed(seed)) * 2


def drawn(sampling: Sampling, logits: torch.Tensor, count: int = 4000) -> Counter[int]:
    sequences = [sequence_of(sampling, [1], []) for _ in range(count)]
    return Counter(one.token for one in Sampler([0]).choose(logits.expand(count, -1), sequences))


@pytest.mark.parametrize(
    ("sampling", "warper"),
    [
        ({"top_k": 5}, TopKLogitsWarper(5)),
        ({"top_p": 0.6}, TopPLogitsWarper(0.6)),
        ({"min_p": 0.2}, MinPLogitsWarper(0.2)),
        ({"typical_p": 0.5}, TypicalLogitsWarper(0.5)),
        ({"epsilon_cutoff": 0.03}, EpsilonLogitsWarper(0.03)),
        ({"eta_cutoff": 0.05}, EtaLogitsWarper(0.05)),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("size", [SIZE, 3 * WINDOW])
def test_tokens_are_drawn_from_those_that_transformers_leaves(
    sampling: dict[str, Any], warper: LogitsProcessor, size: int
) -> None:
    """As often as their probability says, for small vocabularies and for large ones, which are not sorted whole."""
    logits = logits_of(1, size) * (1 if size == SIZE else 2)
    left = warper(torch.tensor([[1]]), logits.clone()).softmax(-1)[0]
    counts = drawn(Sampling(temperature=1.0, **sampling), logits)
    assert set(counts) <= {index for index, mass in enumerate(left.tolist()) if mass > 0}
    for token, mass in enumerate(left.tolist()):
        assert abs(counts[token] / 4000 - mass) < 0.04


def test_temperature_flattens() -> None:
    """Probabilities are those of the logits divided by it."""
    logits = logits_of(2)
    counts = drawn(Sampling(temperature=2.0), logits)
    for token, mass in enumerate((logits / 2).softmax(-1)[0].tolist()):
        assert abs(counts[token] / 4000 - mass) < 0.04


def test_repetition_penalty_is_transformers_own() -> None:
    """Of prompt and answer: divided above 0, multiplied below."""
    for seed in range(20):
        logits = logits_of(seed)
        sequence = sequence_of(Sampling(repetition_penalty=1.8), [3, 4, 5], [6, 6])
        expected = RepetitionPenaltyLogitsProcessor(1.8)(torch.tensor([sequence.tokens]), logits.clone())
        (chosen,) = Sampler([0]).choose(logits, [sequence])
        assert chosen.token == int(expected.argmax())


def test_no_repeat_ngram_size_is_transformers_own() -> None:
    """No run twice, the prompt's included."""
    for seed in range(20):
        logits = logits_of(seed, 8)
        sequence = sequence_of(Sampling(no_repeat_ngram_size=2), [3, 4, 3, 5], [6, 3])
        expected = NoRepeatNGramLogitsProcessor(2)(torch.tensor([sequence.tokens]), logits.clone())
        (chosen,) = Sampler([0]).choose(logits, [sequence])
        assert chosen.token == int(expected.argmax())


def test_presence_and_frequency_penalties_are_of_the_answer_alone() -> None:
    """Subtracted: once for being there, and for each time. (OpenAI's definition.)"""
    logits = torch.zeros(1, SIZE)
    logits[0, 3], logits[0, 4], logits[0, 5] = 3.0, 2.9, 1.8
    for sampling, new, expected in [
        (Sampling(presence_penalty=1.0), [], 3),
        (Sampling(presence_penalty=1.0), [3, 3, 3], 4),
        (Sampling(presence_penalty=1.0), [3, 4], 3),
        (Sampling(frequency_penalty=0.5), [3, 3, 4], 4),
        (Sampling(frequency_penalty=0.5), [3, 3, 3, 4, 4, 4], 5),
    ]:
        sequence = sequence_of(sampling, [3, 3, 3, 3], new)
        assert Sampler([0]).choose(logits, [sequence])[0].token == expected


@pytest.mark.parametrize(
    ("sampling", "new", "expected"),
    [
        (Sampling(bias=((7, 100.0),)), [], 7),
        (Sampling(bias=((3, -100.0),)), [], 4),
        (Sampling(allowed=(8, 9)), [], 8),
        (Sampling(banned_runs=((3,),)), [], 4),
        (Sampling(banned_runs=((9, 3),)), [9], 4),
        (Sampling(banned_runs=((9, 3),)), [8], 3),
    ],
)
def test_tokens_are_wanted_and_banned(sampling: Sampling, new: list[int], expected: int) -> None:
    """By bias, by a list of those allowed, by runs that may not be completed."""
    logits = torch.zeros(1, SIZE)
    logits[0, 3], logits[0, 4], logits[0, 8] = 3.0, 2.0, 1.0
    assert Sampler([0]).choose(logits, [sequence_of(sampling, [1], new)])[0].token == expected


def test_no_end_before_min_tokens() -> None:
    """Neither the model's end token nor the request's own."""
    logits = torch.zeros(1, SIZE)
    logits[0, 0], logits[0, 2], logits[0, 3] = 3.0, 2.0, 1.0
    stops = frozenset({2})
    early = sequence_of(Sampling(), [1], [5], min_tokens=2, stop_ids=stops)
    late = sequence_of(Sampling(), [1], [5, 5], min_tokens=2, stop_ids=stops)
    assert [one.token for one in Sampler([0]).choose(logits.expand(2, -1), [early, late])] == [3, 0]


def test_seed_draws_the_same_alone_and_in_company(model: PreTrainedModel) -> None:
    """Whoever else is there, and whenever it comes."""
    prompt, other = prompts_of(12, 30)
    seeded = GenerationRequest(prompt=prompt, max_tokens=20, sampling=Sampling(temperature=1.0, seed=11))
    stranger = GenerationRequest(prompt=other, max_tokens=30, sampling=Sampling(temperature=1.5, top_p=0.9))
    alone = Script({0: [arrival(0, seeded)]}).drive(engine_of(model)).output(0).tokens
    script = Script({0: [arrival(1, stranger)], 3: [arrival(0, seeded), arrival(2, stranger)]}).drive(engine_of(model))
    assert script.output(0).tokens == alone
    unlike = GenerationRequest(prompt=prompt, max_tokens=20, sampling=Sampling(temperature=1.0, seed=12))
    assert Script({0: [arrival(0, unlike)]}).drive(engine_of(model)).output(0).tokens != alone


def test_one_batch_holds_every_kind_of_request(model: PreTrainedModel) -> None:
    """Greedy ones are not touched by their neighbours' parameters."""
    prompts = prompts_of(5, 9, 14)
    samplings = [Sampling(), Sampling(temperature=1.0, seed=1, top_k=3), Sampling(repetition_penalty=1.5)]
    given = [
        arrival(key, GenerationRequest(prompt=prompt, max_tokens=12, sampling=sampling))
        for key, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
    ]
    script = Script({0: given}).drive(engine_of(model))
    assert script.output(0).tokens == by_generate(model, prompts[0], 12)
    assert script.output(2).tokens == by_generate(model, prompts[2], 12, repetition_penalty=1.5)


def test_log_probabilities_are_the_models_own(model: PreTrainedModel) -> None:
    """Before penalties and temperature; of the prompt's tokens as well, whatever chunks they were computed in."""
    (prompt,) = prompts_of(50)
    sampling = Sampling(repetition_penalty=1.5, num_logprobs=3, num_prompt_logprobs=2)
    engine = engine_of(model, max_prefill_tokens=16)
    output = (
        Script({0: [arrival(0, GenerationRequest(prompt=prompt, max_tokens=6, sampling=sampling))]})
        .drive(engine)
        .output(0)
    )
    with torch.inference_mode():
        logprobs = model(input_ids=torch.tensor([[*prompt, *output.tokens]])).logits[0].log_softmax(-1)
    ranked = [*output.prompt_ranked, *output.ranked]
    assert ranked[0].logprob is None and len(ranked) == 56
    for place, one in enumerate(ranked[1:]):
        values, ids = logprobs[place].topk(2)
        assert one.logprob == pytest.approx(float(logprobs[place, one.token]), abs=1e-3)
        assert [token for token, _ in one.top[:2]] == ids.tolist()
        assert [value for _, value in one.top[:2]] == pytest.approx(values.tolist(), abs=1e-3)
    assert all(len(one.top) == 3 for one in output.ranked)


def test_prompt_alone_can_be_weighed(model: PreTrainedModel) -> None:
    """max_tokens 0: its log-probabilities, and no new token."""
    request = GenerationRequest(prompt=[5, 6, 7], max_tokens=0, sampling=Sampling(num_prompt_logprobs=0))
    output = Script({0: [arrival(0, request)]}).drive(engine_of(model)).output(0)
    assert output.tokens == [] and output.finish_reason == "length" and len(output.prompt_ranked) == 3
