"""A request of ours in the words of vLLM (0.32), as data: what it honours, and what it does not, which is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from app.errors import InvalidInput
from app.runtime.generation.request import GenerationRequest, Sampling

HONOURED = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "bias", "allowed", "banned_runs"),
        *("num_logprobs", "num_prompt_logprobs"),
    }
)
"""Fields of `Sampling` that vLLM computes as we mean them."""

REFUSED: Mapping[str, str] = {
    "typical_p": "parameters.typical_p",
    "epsilon_cutoff": "parameters.epsilon_cutoff",
    "eta_cutoff": "parameters.eta_cutoff",
    "no_repeat_ngram_size": "parameters.no_repeat_ngram_size",
    "values": "parameters.num_beams",
    "inputs": "inputs",
    "adapter": "model",
}
"""Fields of `Sampling` and `GenerationRequest` that it does not know, with the parameter that a client reads."""

_NEUTRAL = Sampling()


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingArguments:
    """Named as in vLLM's `SamplingParams`. The texts that end an answer are not among them: they are looked for in the
    tokens that come, as for every engine. end tokens are given as stop tokens, so that vLLM has no opinion of its own.
    """

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int | None
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    max_tokens: int
    min_tokens: int
    stop_token_ids: list[int]
    logprobs: int | None
    prompt_logprobs: int | None
    logit_bias: dict[int, float] | None
    allowed_token_ids: list[int] | None
    ignore_eos: bool = True
    detokenize: bool = False

    def keywords(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def arguments_of(request: GenerationRequest, end_ids: Sequence[int]) -> SamplingArguments:
    """end_ids: the model's end tokens. Raises InvalidInput that names what vLLM cannot do."""
    refuse(request)
    sampling = request.sampling
    max_tokens = max(1, request.max_tokens)  # one token at least is computed; for a prompt alone it is left out
    ends = [] if request.ignores_eos else end_ids
    return SamplingArguments(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        max_tokens=max_tokens,
        min_tokens=min(request.min_tokens, max_tokens),
        stop_token_ids=sorted({*ends, *request.stop_ids}),
        logprobs=sampling.num_logprobs,
        prompt_logprobs=sampling.num_prompt_logprobs,
        logit_bias=dict(sampling.bias) or None,
        allowed_token_ids=list(sampling.allowed) or None,
    )


def refuse(request: GenerationRequest) -> None:
    """Raises InvalidInput for what would otherwise be ignored."""
    for name, param in REFUSED.items():
        if name in Sampling.__dataclass_fields__:
            is_asked = getattr(request.sampling, name) != getattr(_NEUTRAL, name)
        else:
            is_asked = bool(getattr(request, name))
        if is_asked:
            text = (
                "vLLM, which serves this model, cannot do this; leave it out, or declare the model with backend: torch."
            )
            raise InvalidInput(f"{param}: {text}", param=param)
