"""Requests in vLLM's words: everything that a request can say is honoured or refused by name. vLLM is not needed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from app.errors import InvalidInput
from app.runtime.backends.vllm_arguments import HONOURED, REFUSED, SamplingArguments, arguments_of
from app.runtime.generation.request import GenerationRequest, Sampling

END_IDS = (7, 9)
PLAIN = SamplingArguments(
    temperature=0.0,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    seed=None,
    repetition_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    max_tokens=5,
    min_tokens=0,
    stop_token_ids=[7, 9],
    logprobs=None,
    prompt_logprobs=None,
    logit_bias=None,
    allowed_token_ids=None,
)
OF_REQUESTS = {"prompt", "sampling", "max_tokens", "min_tokens", "stops", "stop_ids", "ignores_eos", "grammar"}
"""Fields of `GenerationRequest` that are honoured."""
OF_OTHER_TASKS = {"read", "forced", "group"}
"""What only encoder-decoders and the engine of `generate` are given."""


def arguments(sampling: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    asked = GenerationRequest(
        **{"prompt": [1, 2], "max_tokens": 5, "sampling": Sampling(**(sampling or {})), **request}
    )
    return arguments_of(asked, END_IDS).keywords()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 3}, {"temperature": 0.5, "top_p": 0.9, "top_k": 3}),
        ({"temperature": 1.0, "min_p": 0.1, "seed": 4}, {"temperature": 1.0, "min_p": 0.1, "seed": 4}),
        ({"repetition_penalty": 1.2}, {"repetition_penalty": 1.2}),
        ({"presence_penalty": 1.0, "frequency_penalty": -1.0}, {"presence_penalty": 1.0, "frequency_penalty": -1.0}),
        ({"bias": ((3, 1.5), (4, -100.0))}, {"logit_bias": {3: 1.5, 4: -100.0}}),
        ({"allowed": (3, 4)}, {"allowed_token_ids": [3, 4]}),
        ({"num_logprobs": 0, "num_prompt_logprobs": 2}, {"logprobs": 0, "prompt_logprobs": 2}),
    ],
)
def test_sampling_is_said_in_vllms_words(sampling: dict[str, Any], expected: dict[str, Any]) -> None:
    """And what is not said changes nothing."""
    assert arguments(sampling) == {**PLAIN.keywords(), **expected}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"stop_ids": frozenset({3})}, {"stop_token_ids": [3, 7, 9]}),
        ({"ignores_eos": True}, {"stop_token_ids": []}),
        ({"ignores_eos": True, "stop_ids": frozenset({9})}, {"stop_token_ids": [9]}),
        ({"min_tokens": 3}, {"min_tokens": 3}),
        ({"min_tokens": 50}, {"min_tokens": 5}),
        ({"max_tokens": 0}, {"max_tokens": 1}),
        ({"stops": ("x",)}, {}),
    ],
)
def test_the_end_of_an_answer_is_ours(request_: dict[str, Any], expected: dict[str, Any]) -> None:
    """vLLM's own opinion of end tokens is switched off; stop texts are looked for by the account."""
    assert arguments(**request_) == {**PLAIN.keywords(), **expected} and PLAIN.ignore_eos and not PLAIN.detokenize


@pytest.mark.parametrize("field", [field.name for field in fields(Sampling)])
def test_every_field_of_sampling_is_honoured_or_refused(field: str) -> None:
    """None is forgotten, and none is both."""
    assert (field in HONOURED) != (field in REFUSED)


@pytest.mark.parametrize("field", [field.name for field in fields(GenerationRequest)])
def test_every_field_of_a_request_is_honoured_or_refused(field: str) -> None:
    """Or belongs to tasks that this backend is not for."""
    assert (field in OF_REQUESTS) + (field in REFUSED) + (field in OF_OTHER_TASKS) == 1


@pytest.mark.parametrize(
    ("sampling", "request_", "param"),
    [
        ({"temperature": 1.0, "typical_p": 0.9}, {}, "parameters.typical_p"),
        ({"temperature": 1.0, "epsilon_cutoff": 0.1}, {}, "parameters.epsilon_cutoff"),
        ({"temperature": 1.0, "eta_cutoff": 0.1}, {}, "parameters.eta_cutoff"),
        ({"no_repeat_ngram_size": 2}, {}, "parameters.no_repeat_ngram_size"),
        ({}, {"values": {"num_beams": 2}}, "parameters.num_beams"),
        ({}, {"inputs": {"pixel_values": 1}}, "inputs"),
        ({}, {"adapter": object()}, "model"),
    ],
)
def test_what_vllm_cannot_do_is_refused_by_name(sampling: dict[str, Any], request_: dict[str, Any], param: str) -> None:
    """Never ignored."""
    with pytest.raises(InvalidInput, match=param) as raised:
        arguments(sampling, **request_)
    assert raised.value.param == param and "vLLM" in raised.value.message
