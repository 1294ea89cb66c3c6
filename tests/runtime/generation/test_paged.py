"""The engine over pages: the same tokens as over rows, by torch's kernel (in its place one that takes the same) and by
plain operations, recorded or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from app.runtime.generation.attention import LayerShape
from app.runtime.generation.gate import checked, pages_or_rows
from app.runtime.generation.graphs import SIZES
from app.runtime.generation.paged import PagedRunner
from app.runtime.generation.pages import PAGE_TOKENS, Kernel, torch_kernel
from app.runtime.generation.request import GenerationRequest, Sampling
from app.runtime.generation.runner import RowsRunner
from tests.runtime.generation.driving import Script, arrival, by_generate, engine_of, prompts_of
from tests.runtime.generation.families import build
from tests.runtime.generation.kernels import CountingKernel
from tests.runtime.generation.test_exactness import NUM_TOKENS, PROMPTS, coming_and_going

PAGE = 16
FAMILIES = ("llama", "mistral", "gemma2", "gemma3_text", "gpt_oss", "gpt2", "qwen3_moe", "opt")
"""Every kind of attention that is inside the gate: shared heads, windows, softcaps, sinks, positions of all kinds."""
FOR_THE_KERNEL = ("llama", "mistral", "gpt2")


class Recording:
    """A `Recorder` whose replays compute again, on whatever the tensors hold then."""

    def __init__(self, error: Exception | None = None) -> None:
        self.num_recorded = self.num_replayed = 0
        self._error = error

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        if self._error is not None:
            raise self._error
        result = compute()
        self.num_recorded += 1

        def replay() -> torch.Tensor:
            self.num_replayed += 1
            return result.copy_(compute())

        return replay


def no_kernel(layer: LayerShape) -> Kernel | None:
    return None


def paged(model: PreTrainedModel, kernel: CountingKernel | None = None, **more: Any) -> PagedRunner:
    kernel_of = no_kernel if kernel is None else kernel.of
    return PagedRunner(model, page_tokens=PAGE, kernel_of=kernel_of, **more)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return build("llama")


@pytest.mark.parametrize(
    ("family", "has_kernel"), [*((one, False) for one in FAMILIES), *((one, True) for one in FOR_THE_KERNEL)]
)
def test_pages_write_what_generate_writes(family: str, has_kernel: bool) -> None:
    """Among strangers that come and go: by plain operations, and by the kernel with windows and shared heads."""
    model, kernel = build(family), CountingKernel(PAGE) if has_kernel else None
    expected = [by_generate(model, prompt, NUM_TOKENS) for prompt in PROMPTS]
    runner = paged(model, kernel)
    script = coming_and_going().drive(engine_of(model, runner=runner))
    assert {key: script.output(key).tokens for key in (0, 1, 2, 4, 5)} == {
        key: expected[key] for key in (0, 1, 2, 4, 5)
    }
    assert runner.memory.has_gathered is not has_kernel


def test_kernel_is_called_as_torch_takes_it() -> None:
    """With pages of the size that it asks for: prompts of several pages, and the gate."""
    kernel = CountingKernel()
    model = build("mistral", max_position_embeddings=1024)
    (prompt,) = prompts_of(600)
    expected = by_generate(model, prompt, 8)
    runner = checked(model, PagedRunner(model, kernel_of=kernel.of))
    engine = engine_of(model, runner=runner, max_length=1024, max_prefill_tokens=400)
    script = Script({0: [arrival(0, GenerationRequest(prompt=prompt, max_tokens=8))]}).drive(engine)
    assert script.output(0).tokens == expected
    assert kernel.num_calls


class Refusing(CountingKernel):
    def __call__(self, *args: Any, **keywords: Any) -> torch.Tensor:
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")


class Wrong(CountingKernel):
    """Right for prompts, wrong for the steps after them."""

    def __call__(self, *args: Any, **keywords: Any) -> torch.Tensor:
        output = super().__call__(*args, **keywords)
        return output if args[5] > 1 else output + 1


@pytest.mark.parametrize("kernel", [Refusing(), Wrong()])
def test_model_whose_kernel_fails_has_rows(model: PreTrainedModel, kernel: CountingKernel) -> None:
    """The gate finds it at the load."""
    assert isinstance(pages_or_rows(model, lambda: PagedRunner(model, kernel_of=kernel.of)), RowsRunner)
    right = pages_or_rows(model, lambda: PagedRunner(model, kernel_of=CountingKernel().of))
    assert isinstance(right, PagedRunner)


def test_torch_kernel_is_for_cuda_alone() -> None:
    """Elsewhere, and for what it cannot take, plain operations."""
    for device, dtype, size in (("cpu", torch.bfloat16, 64), ("cuda", torch.float32, 64), ("cuda", torch.float16, 12)):
        assert torch_kernel(LayerShape(2, size, dtype, torch.device(device))) is None
    assert PAGE_TOKENS % 256 == 0


def test_shared_blocks_are_computed_once(model: PreTrainedModel) -> None:
    """Whole pages of a prompt that begins alike are another's, without a copy."""
    (system,) = prompts_of(60)
    prompts = [[*system, 5], [*system, 6, 7], [*system, 8]]
    expected = [by_generate(model, prompt, 8) for prompt in prompts]
    given = [arrival(key, GenerationRequest(prompt=prompt, max_tokens=8)) for key, prompt in enumerate(prompts)]
    script = Script({0: given[:2], 20: given[2:]}).drive(engine_of(model, runner=paged(model)))
    assert [script.output(key).tokens for key in range(3)] == expected
    assert [script.output(key).num_cached for key in range(3)] == [0, 48, 48]


def test_next_turn_of_a_chat_goes_on_from_the_last_full_page(model: PreTrainedModel) -> None:
    """What the answer filled is known too."""
    (prompt,) = prompts_of(40)
    engine = engine_of(model, runner=paged(model))
    answer = Script({0: [arrival(0, GenerationRequest(prompt=prompt, max_tokens=30))]}).drive(engine).output(0).tokens
    longer = [*prompt, *answer, 9, 9]
    output = Script({0: [arrival(1, GenerationRequest(prompt=longer, max_tokens=10))]}).drive(engine).output(1)
    assert output.num_cached == 64
    assert output.tokens == by_generate(model, longer, 10)


@pytest.mark.parametrize("recorder", [None, Recording()])
def test_short_memory_sends_the_youngest_back_and_loses_nothing(
    model: PreTrainedModel, recorder: Recording | None
) -> None:
    """More texts than there are pages for: all are answered, each as if it were alone."""
    prompts = prompts_of(20, 30, 10, 25, 40, 5)
    expected = [by_generate(model, prompt, 60) for prompt in prompts]
    recorder_of = None if recorder is None else lambda device: recorder
    runner = paged(model, CountingKernel(PAGE), recorder_of=recorder_of)
    engine = engine_of(model, runner=runner, limit_tokens=304, max_length=200)
    given = [arrival(key, GenerationRequest(prompt=prompt, max_tokens=60)) for key, prompt in enumerate(prompts)]
    script = Script({0: given}).drive(engine)
    assert [script.output(key).tokens for key in range(6)] == expected
    assert script.states[-1].num_preemptions > 0
    assert all(state.num_used_tokens <= 304 for state in script.states)


def test_prompts_are_ranked_though_they_are_known(model: PreTrainedModel) -> None:
    """Their logits are asked for, so they are computed."""
    (prompt,) = prompts_of(50)
    engine = engine_of(model, runner=paged(model))
    asked = GenerationRequest(prompt=prompt, max_tokens=2, sampling=Sampling(num_prompt_logprobs=1))
    for key in range(2):
        output = Script({0: [arrival(key, asked)]}).drive(engine).output(key)
        assert output.num_cached == 0 and len(output.prompt_ranked) == 50


def test_recorded_steps_write_the_same_tokens(model: PreTrainedModel) -> None:
    """One recording for each size that is met; what it is filled up with harms nobody."""
    recorder = Recording()
    expected = [by_generate(model, prompt, NUM_TOKENS) for prompt in PROMPTS]
    engine = engine_of(model, runner=paged(model, CountingKernel(PAGE), recorder_of=lambda device: recorder))
    script = coming_and_going().drive(engine)
    assert {key: script.output(key).tokens for key in (0, 1, 2, 4, 5)} == {
        key: expected[key] for key in (0, 1, 2, 4, 5)
    }
    assert 0 < recorder.num_recorded <= len([size for size in SIZES if size <= 8])
    assert recorder.num_replayed > 10


@pytest.mark.parametrize(("family", "has_kernel"), [("llama", False), ("gemma2", True)])
def test_steps_without_the_kernel_are_not_recorded(family: str, has_kernel: bool) -> None:
    """They would gather the longest text's pages for each."""
    recorder, model = Recording(), build(family)
    runner = paged(model, CountingKernel(PAGE) if has_kernel else None, recorder_of=lambda device: recorder)
    coming_and_going().drive(engine_of(model, runner=runner))
    assert recorder.num_recorded == 0


def test_what_cannot_be_recorded_is_computed_as_it_is(model: PreTrainedModel) -> None:
    """Once it is tried, not at each step."""
    recorder = Recording(RuntimeError("operation not permitted when stream is capturing"))
    (prompt,) = prompts_of(9)
    engine = engine_of(model, runner=paged(model, CountingKernel(PAGE), recorder_of=lambda device: recorder))
    script = Script({0: [arrival(0, GenerationRequest(prompt=prompt, max_tokens=10))]}).drive(engine)
    assert script.output(0).tokens == by_generate(model, prompt, 10)
    assert engine._runner._graphs._is_off  # type: ignore[attr-defined]
