"""The continuous engine: who is computed when, what is shared, what happens when memory runs short."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from app.errors import BackendFailed
from app.runtime.generation.making import make_engine
from app.runtime.generation.request import GenerationRequest, Sampling
from tests.runtime.generation.driving import Script, arrival, by_generate, engine_of, prompts_of
from tests.runtime.generation.families import build


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return build("llama")


def request(prompt: list[int], max_tokens: int = 10, **more: Any) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, max_tokens=max_tokens, **more)


def test_newcomer_has_its_first_token_before_the_others_end(model: PreTrainedModel) -> None:
    """It arrives mid-decode and waits for nobody's end."""
    first, second = prompts_of(30, 50)
    script = Script({0: [arrival(0, request(first, 40))], 10: [arrival(1, request(second, 5))]}).drive(engine_of(model))
    assert 10 < script.first_step[1] < script.last_step[1] < script.last_step[0]


def test_models_inside_the_gate_never_call_generate(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the parameters, but for a beam search."""

    def refuse(*args: object, **keywords: object) -> None:
        raise AssertionError("generate was called")

    monkeypatch.setattr(model, "generate", refuse)
    engine = make_engine(model, None, max_length=256, pool_bytes=None, takes_files=False)
    sampling = Sampling(temperature=0.7, top_k=5, top_p=0.9, repetition_penalty=1.2, seed=3, num_logprobs=2)
    script = Script({0: [arrival(0, request([5, 6])), arrival(1, request([7], sampling=sampling))]}).drive(engine)
    assert len(script.output(0).tokens) == len(script.output(1).tokens) == 10


def test_long_prompt_is_computed_in_chunks_between_the_tokens_of_others(model: PreTrainedModel) -> None:
    """Everybody who decodes has a token in every step."""
    engine = engine_of(model, max_prefill_tokens=16)
    short, long = prompts_of(4, 100)
    expected = by_generate(model, long, 5)
    script = Script({0: [arrival(0, request(short, 30))], 2: [arrival(1, request(long, 5))]}).drive(engine)
    assert script.first_step[1] > 2 + 100 // 16 and script.output(1).tokens == expected
    assert len(script.advances[0]) == script.last_step[0], "the short one missed a step"


def test_shared_prefix_is_computed_once(model: PreTrainedModel) -> None:
    """Those that come together wait for the first, those that come later copy it; all write what they would alone."""
    (system,) = prompts_of(60)
    prompts = [[*system, 5], [*system, 6, 7], [*system, 8]]
    expected = [by_generate(model, prompt, 8) for prompt in prompts]
    given = [arrival(key, request(prompt, 8)) for key, prompt in enumerate(prompts)]
    script = Script({0: given[:2], 20: given[2:]}).drive(engine_of(model))
    outputs = [script.output(key) for key in range(3)]
    assert [one.tokens for one in outputs] == expected
    assert [one.num_cached for one in outputs] == [0, 60, 60]
    assert script.states[-1].num_cached_tokens == 120


def test_next_turn_of_a_chat_goes_on_from_the_last(model: PreTrainedModel) -> None:
    """The prompt and the answer that are there are not computed again."""
    (prompt,) = prompts_of(40)
    engine = engine_of(model)
    answer = Script({0: [arrival(0, request(prompt))]}).drive(engine).output(0).tokens
    longer = [*prompt, *answer, 9, 9]
    output = Script({0: [arrival(1, request(longer))]}).drive(engine).output(1)
    assert output.num_cached == len(prompt) + len(answer) - 1
    assert output.tokens == by_generate(model, longer, 10)


def test_short_memory_sends_the_youngest_back_and_loses_nothing(model: PreTrainedModel) -> None:
    """More texts than there is room for: all are answered, each as if it were alone."""
    prompts = prompts_of(20, 30, 10, 25, 40, 5)
    expected = [by_generate(model, prompt, 60) for prompt in prompts]
    engine = engine_of(model, limit_tokens=300, max_length=200)
    given = [arrival(key, request(prompt, 60)) for key, prompt in enumerate(prompts)]
    script = Script({0: given}).drive(engine)
    assert [script.output(key).tokens for key in range(6)] == expected
    assert all(state.num_used_tokens <= 300 for state in script.states)


def test_text_that_needs_all_memory_gets_it(model: PreTrainedModel) -> None:
    """Alone it may grow to the last token, though it moves on the way."""
    (prompt,) = prompts_of(30)
    engine = engine_of(model, limit_tokens=200, max_length=200)
    others = [arrival(key, request([key + 3] * 9, 20)) for key in (1, 2)]
    script = Script({0: [arrival(0, request(prompt, 170)), *others]}).drive(engine)
    assert script.output(0).tokens == by_generate(model, prompt, 170)
    assert script.states[-1].num_preemptions > 0


def test_one_that_leaves_frees_its_row_within_a_step(model: PreTrainedModel) -> None:
    """And the others go on."""
    given = [arrival(key, request([key + 3, 5], 30)) for key in range(2)]
    script = Script({0: given}, {5: [0]}).drive(engine_of(model))
    assert script.states[4].num_running == 2 and script.states[5].num_running == 1
    assert len(script.output(1).tokens) == 30 and len(script.advances[0]) == 5


def test_bad_sequence_never_harms_its_neighbours(model: PreTrainedModel) -> None:
    """A step that raises is computed again in halves; only the culprit fails."""
    engine = engine_of(model)
    runner = engine._runner
    forward = runner._forward

    def poisoned(tokens: list[int], positions: list[int], kept: list[int]) -> torch.Tensor:
        if 99 in tokens:
            raise RuntimeError("a kernel failed")
        return forward(tokens, positions, kept)

    runner._forward = poisoned  # type: ignore[method-assign]
    prompts = [[5, 6], [7, 99], [8]]
    script = Script({0: [arrival(key, request(prompt)) for key, prompt in enumerate(prompts)]}).drive(engine)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        script.output(1)
    assert [script.output(key).tokens for key in (0, 2)] == [by_generate(model, prompts[key], 10) for key in (0, 2)]


def test_numbers_that_are_not_finite_are_an_error_of_their_sequence(model: PreTrainedModel) -> None:
    """NaN never becomes a token."""
    engine = engine_of(model)
    forward = engine._runner._forward

    def broken(tokens: list[int], positions: list[int], kept: list[int]) -> torch.Tensor:
        logits = forward(tokens, positions, kept).clone()
        logits[0] = float("nan")
        return logits

    engine._runner._forward = broken  # type: ignore[method-assign]
    script = Script({0: [arrival(0, request([5])), arrival(1, request([6], 1))]}).drive(engine)
    with pytest.raises(BackendFailed, match="not finite"):
        script.output(0)
    assert len(script.output(1).tokens) == 1


def test_five_hundred_that_come_and_vanish_leave_nothing(model: PreTrainedModel) -> None:
    """And the engine is as exact right after."""
    engine = engine_of(model)
    script = Script(
        {step: [arrival(step * 10 + one, request([3 + one, 4], 50)) for one in range(10)] for step in range(50)},
        {step + 1: [step * 10 + one for one in range(10)] for step in range(50)},
    ).drive(engine)
    assert script.states[-1].num_running <= 10
    (prompt,) = prompts_of(30)
    after = Script({0: [arrival(1000, request(prompt))]}).drive(engine)
    assert after.output(1000).tokens == by_generate(model, prompt, 10)
    assert after.states[-1].num_running == 0


def test_beam_search_goes_through_generate_beside_the_engine(model: PreTrainedModel) -> None:
    """Its answer is that of `generate`, and the others' are as ever."""
    engine = make_engine(model, None, max_length=256, pool_bytes=None, takes_files=False)
    beams = request([5, 6, 7], 8, values={"num_beams": 3})
    script = Script({0: [arrival(0, beams), arrival(1, request([8, 9]))]}).drive(engine)
    (answer,) = script.output(0)
    assert answer.tokens == by_generate(model, [5, 6, 7], 8, num_beams=3)
    assert script.output(1).tokens == by_generate(model, [8, 9], 10)


def test_one_that_leaves_while_the_device_does_something_else_is_gone(model: PreTrainedModel) -> None:
    """The next run takes it out before it computes anything, though nothing else is left to do."""

    class Busy(Script):
        def is_wanted_elsewhere(self) -> bool:
            return True

    engine = make_engine(model, None, max_length=256, pool_bytes=None, takes_files=False)
    control = Busy({0: [arrival(0, request([5, 6], 30))]})
    engine.run(control)
    assert control.num_steps == 1 and control.states[-1].num_running == 1
    control._departures[1] = [0]
    engine.run(control)
    assert control.num_steps == 1
    after = Script({0: [arrival(1, request([7], 2))]}).drive(engine)
    assert after.states[0].num_running == 1 and len(after.output(1).tokens) == 2


def test_limit_of_memory_is_of_bytes() -> None:
    """The declared pool says how many tokens there is room for."""
    model = build("llama")
    each = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, head size, bytes
    engine = make_engine(model, None, max_length=1000, pool_bytes=100 * each, takes_files=False)
    assert engine.longest == 100 and engine.pool == {"cpu": 100 * each}
