"""The continuous engine against `generate`, family by family, and the gate that says which families it computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from app.runtime.generation.attention import NotPossible
from app.runtime.generation.gate import runner_of
from app.runtime.generation.request import GenerationRequest, Sampling
from app.runtime.generation.whole import GenerateEngine
from tests.runtime.generation.driving import Script, arrival, by_generate, engine_of, prompts_of
from tests.runtime.generation.families import CONFIGS, build

OUTSIDE = frozenset({"stablelm", "falcon", "bloom", "mpt", "gptj", "codegen", "deepseek_v3", "mamba", "rwkv"})
INSIDE = sorted(set(CONFIGS) - OUTSIDE)
NUM_TOKENS = 20
PROMPTS = prompts_of(3, 40, 9, 1, 70, 25)
DOCUMENT = Path(__file__).parents[3] / "docs" / "generation.md"


def _requests() -> list[GenerationRequest]:
    return [GenerationRequest(prompt=prompt, max_tokens=NUM_TOKENS) for prompt in PROMPTS]


def coming_and_going() -> Script:
    """Two begin, two come later, of which one leaves, and two come when others are near their end."""
    given = [arrival(key, request) for key, request in enumerate(_requests())]
    return Script({0: given[:2], 4: given[2:4], 9: given[4:]}, {12: [3]})


@pytest.mark.parametrize("family", INSIDE)
def test_engine_writes_what_generate_writes(family: str) -> None:
    """Greedily, among strangers of other lengths that come and go in the midst of it."""
    model = build(family)
    expected = [by_generate(model, prompt, NUM_TOKENS) for prompt in PROMPTS]
    script = coming_and_going().drive(engine_of(model))
    assert {key: script.output(key).tokens for key in (0, 1, 2, 4, 5)} == {
        key: expected[key] for key in (0, 1, 2, 4, 5)
    }
    assert len(set(expected[1])) > 1, "A model that repeats one token tells nothing."


@pytest.mark.parametrize("family", sorted(OUTSIDE))
def test_models_outside_the_gate_are_written_by_generate(family: str) -> None:
    """By the same rules: each text as if it were alone, those that leave are left."""
    model = build(family)
    with pytest.raises(NotPossible):
        runner_of(model)
    expected = [by_generate(model, prompt, NUM_TOKENS) for prompt in PROMPTS]
    script = coming_and_going().drive(GenerateEngine(model, None, end_ids=(), max_rows=8, max_tokens=4096))
    assert {key: script.output(key).tokens for key in (0, 1, 2, 4, 5)} == {
        key: expected[key] for key in (0, 1, 2, 4, 5)
    }


@pytest.mark.parametrize("family", ["bloom", "mamba"])
def test_prompts_are_ranked_outside_the_gate(family: str) -> None:
    """Also where no token is asked for, among others that go on."""
    model = build(family)
    sampling = Sampling(num_prompt_logprobs=1)
    asked = [
        arrival(key, GenerationRequest(prompt=prompt, max_tokens=most, sampling=sampling))
        for key, prompt, most in ((0, PROMPTS[0], 0), (1, PROMPTS[1], 3), (2, PROMPTS[2], 0))
    ]
    script = Script({0: asked}).drive(GenerateEngine(model, None, end_ids=(), max_rows=8, max_tokens=4096))
    for key, num_tokens in ((0, 0), (1, 3), (2, 0)):
        output, prompt = script.output(key), torch.tensor(PROMPTS[key])
        assert len(output.tokens) == num_tokens and output.finish_reason == "length"
        with torch.inference_mode():
            expected = model(prompt[None]).logits[0].log_softmax(-1)
        told = [one.logprob for one in output.prompt_ranked[1:]]
        torch.testing.assert_close(
            torch.tensor(told), expected[:-1].gather(1, prompt[1:, None])[:, 0], atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("family", INSIDE)
def test_gate_lets_in_what_is_exact(family: str) -> None:
    """By what the model says of itself, and by its logits."""
    assert runner_of(build(family)).memory.bytes_per_token[torch.device("cpu")] > 0


def test_gate_finds_a_model_that_would_be_wrong() -> None:
    """One whose attention looks at more than it is handed: its logits differ."""
    model = build("llama")
    original = model.model.layers[0].self_attn.forward

    def peeking(hidden_states: torch.Tensor, **keywords: object) -> object:
        output, weights = original(hidden_states=hidden_states, **keywords)
        return output + hidden_states.mean(1, keepdim=True), weights

    model.model.layers[0].self_attn.forward = peeking
    with pytest.raises(NotPossible, match="logits differ"):
        runner_of(model)


def test_document_tells_the_gate() -> None:
    """The table of docs/generation.md is this test's."""
    rows = {
        line.split("|")[1].strip(" `"): line.split("|")[2].strip()
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| `") and line.split("|")[2].strip() in ("continuous", "`generate`")
    }
    assert rows == {
        **dict.fromkeys(INSIDE, "continuous"),
        **dict.fromkeys(sorted(OUTSIDE), "`generate`"),
    }
