"""The engine on a real GPU: pages, torch's kernel and recorded steps against `generate`. Skipped without CUDA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import PreTrainedModel

from app.runtime.generation.gate import checked, runner_of
from app.runtime.generation.graphs import CudaRecorder
from app.runtime.generation.paged import PagedRunner
from app.runtime.generation.request import GenerationRequest
from app.runtime.generation.runner import Runner
from tests.runtime.generation.driving import Script, arrival, engine_of, prompts_of
from tests.runtime.generation.families import build
from tests.runtime.generation.kernels import CountingKernel

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA sees")

LENGTHS = (3, 300, 90, 1, 700, 250)
NUM_TOKENS = 40
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def model_of(family: str, dtype: str) -> PreTrainedModel:
    """Large enough heads for the kernel, and contexts of several pages."""
    return build(family, max_position_embeddings=2048, head_dim=16).to("cuda:0", DTYPES[dtype])


def written(model: PreTrainedModel, runner: Runner) -> list[list[int]]:
    """Two begin, two come later, two when others are near their end."""
    given = [
        arrival(key, GenerationRequest(prompt=prompt, max_tokens=NUM_TOKENS))
        for key, prompt in enumerate(prompts_of(*LENGTHS))
    ]
    engine = engine_of(model, runner=runner, limit_tokens=8192, max_length=2048)
    script = Script({0: given[:2], 4: given[2:4], 30: given[4:]}).drive(engine)
    return [script.output(key).tokens for key in range(len(given))]


def by_generate(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt], device=model.device)
    output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NUM_TOKENS, do_sample=False)
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt_oss"])
def test_pages_write_what_generate_writes(family: str) -> None:
    """In float32, token by token, by plain operations."""
    model = model_of(family, "float32")
    assert written(model, PagedRunner(model)) == [by_generate(model, prompt) for prompt in prompts_of(*LENGTHS)]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3"])
def test_kernel_and_graphs_pass_the_gate(family: str) -> None:
    """In bfloat16 by the kernel; the last step of the gate is a recorded one."""
    model = model_of(family, "bfloat16")
    runner = checked(model, PagedRunner(model, recorder_of=CudaRecorder))
    assert isinstance(runner, PagedRunner) and not runner.memory.has_gathered


def test_recorded_steps_write_what_unrecorded_ones_write() -> None:
    """The same kernels in the same order, but for how keys are split between them: that rounds otherwise, and after one
    token that differs all may."""
    model = model_of("llama", "bfloat16")
    recorded = PagedRunner(model, recorder_of=CudaRecorder)
    pairs = zip(written(model, recorded), written(model, PagedRunner(model)), strict=True)
    same = [one == other for tokens, others in pairs for one, other in zip(tokens, others, strict=True)]
    assert recorded._graphs is not None and recorded._graphs._steps and not recorded._graphs._is_off
    assert sum(same) / len(same) > 0.5


def test_engine_of_a_model_on_a_gpu_lies_in_pages() -> None:
    """The gate's own choice."""
    assert isinstance(runner_of(model_of("llama", "bfloat16")), PagedRunner)


def test_kernel_computes_what_the_one_in_its_place_computes() -> None:
    """On one step: two that decode, and a chunk of a prompt in the midst of it."""
    torch.manual_seed(0)
    lengths, num_new = [300, 17, 600], [1, 1, 200]
    tables = torch.tensor([[0, 3, 0], [5, 0, 0], [1, 2, 4]], dtype=torch.int32, device="cuda")
    pool = torch.randn(2, 6, 256, 2, 64, device="cuda", dtype=torch.bfloat16)
    query = torch.randn(sum(num_new), 8, 64, device="cuda", dtype=torch.bfloat16)
    starts, ends = (
        torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()], dtype=torch.int32, device="cuda")
        for sizes in (num_new, lengths)
    )
    used = torch.tensor(lengths, dtype=torch.int32, device="cuda")
    for window in ((-1, 0), (99, 0)):
        given = (query, pool[0], pool[1], starts, ends, 200, 600)
        options: dict[str, Any] = {"scale": 0.125, "window_size": window, "enable_gqa": True}
        options |= {"seqused_k": used, "block_table": tables}
        found, expected = (kernel(*given, **options) for kernel in (varlen_attn, CountingKernel()))
        torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)
