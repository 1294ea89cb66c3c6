"""An entry of models.yaml in vLLM's words. vLLM is not needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from app.catalog import ModelSpec
from app.errors import ModelFailed
from app.runtime.backends.vllm import (
    EngineArguments,
    KeptGrammars,
    bytes_per_token,
    computed_in,
    engine_arguments,
    environment_of,
    hollow_model,
)
from app.runtime.packing import computes
from app.runtime.placement import Placement
from app.settings import CACHE_DIR_VARIABLE

CPU = Placement((torch.device("cpu"),))
ONE_GPU = Placement((torch.device("cuda", 0),))
TWO_GPUS = Placement((torch.device("cuda", 1), torch.device("cuda", 3)), "auto")
FOLDER = Path("model")
CONFIG = Qwen2Config(
    hidden_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_hidden_layers=3,
    vocab_size=100,
    dtype=torch.bfloat16,
)
PER_TOKEN = 2 * 3 * 2 * 16 * 4
"""Keys and values, layers, heads, their size, bytes of float32."""


def spec_of(**declared: Any) -> ModelSpec:
    return ModelSpec(**{"id": "m", "model": "/model", "tasks": ("text-generation",), "backend": "vllm", **declared})


def arguments(
    placement: Placement = CPU, *, context: int = 1000, free: int = 2**34, **declared: Any
) -> EngineArguments:
    return engine_arguments(
        spec_of(**{"dtype": "float32", **declared}),
        FOLDER,
        CONFIG,
        placement,
        tokenizer="tokens",
        context=1000,
        seed=5,
        free_bytes=lambda device: free,
    )


def test_memory_is_eight_contexts_unless_the_entry_says() -> None:
    """And a block that vLLM keeps to itself; a declared pool bounds the longest text."""
    assert arguments().max_model_len == 1000
    assert arguments().kv_cache_memory_bytes == (8 * 1000 + 2 * 128) * PER_TOKEN
    assert arguments(kv_cache_bytes=4 * 128 * PER_TOKEN).kv_cache_memory_bytes == 4 * 128 * PER_TOKEN
    assert arguments(kv_cache_bytes=4 * 128 * PER_TOKEN).max_model_len == 3 * 128
    assert arguments(free=4 * 512 * PER_TOKEN).max_model_len == 5 * 128
    with pytest.raises(ModelFailed, match="kv_cache: vLLM needs"):
        arguments(kv_cache_bytes=128 * PER_TOKEN)


def test_keys_of_an_entry_become_arguments() -> None:
    """Pickled weights only where they are allowed, the tokenizer that was declared, all devices."""
    plain = arguments()
    assert (plain.model, plain.tokenizer, plain.dtype, plain.seed) == ("model", "tokens", "float32", 5)
    assert (plain.load_format, plain.tensor_parallel_size, plain.enforce_eager) == ("safetensors", 1, True)
    assert arguments(allow_pickle=True).load_format == "auto"
    assert arguments(TWO_GPUS).tensor_parallel_size == 2


@pytest.mark.parametrize("placement", [CPU, ONE_GPU, TWO_GPUS], ids=["cpu", "gpu", "gpus"])
@pytest.mark.parametrize("compile", [False, True])
def test_vllm_compiles_and_captures_graphs_on_gpus_always(placement: Placement, compile: bool) -> None:
    """And on a CPU, where it takes minutes and a C++ compiler, if the entry says so. `enforce_eager` is vLLM's word for
    neither."""
    assert arguments(placement, compile=compile).keywords()["enforce_eager"] == (placement == CPU and not compile)


def test_types_are_those_of_the_torch_backend() -> None:
    """bfloat16 where it is computed in; a quantized checkpoint has its own."""
    expected = torch.bfloat16 if computes(torch.bfloat16) else torch.float32
    assert computed_in(spec_of(), CONFIG, torch.device("cpu")) == expected
    assert computed_in(spec_of(), CONFIG, torch.device("cuda")) == torch.bfloat16
    assert computed_in(spec_of(dtype="bfloat16"), CONFIG, torch.device("cpu")) == torch.bfloat16
    assert bytes_per_token(CONFIG, torch.float32) == PER_TOKEN


def test_nothing_phones_home_and_all_is_one_process() -> None:
    """As variables that vLLM reads when it is imported; what it makes lies in our cache folder."""
    on_cpu = environment_of(CPU, {CACHE_DIR_VARIABLE: "/cache"})
    assert on_cpu["VLLM_NO_USAGE_STATS"] == on_cpu["DO_NOT_TRACK"] == "1"
    assert on_cpu["VLLM_HOST_IP"] == "127.0.0.1"
    assert on_cpu["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" and on_cpu["VLLM_TARGET_DEVICE"] == "cpu"
    assert on_cpu["VLLM_CACHE_ROOT"] == os.path.join("/cache", "vllm")
    assert environment_of(TWO_GPUS, {})["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert environment_of(TWO_GPUS, {"CUDA_VISIBLE_DEVICES": "9,8,7,6"})["CUDA_VISIBLE_DEVICES"] == "8,6"


def test_hollow_model_knows_all_but_its_weights(tmp_path: Path) -> None:
    """Its vocabulary, its end tokens, its size."""
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [3, 4]}')
    model = hollow_model(AutoModelForCausalLM, CONFIG, tmp_path, dtype=torch.float32)
    assert model.device.type == "meta" and model.dtype == torch.float32
    assert model.get_output_embeddings().weight.shape[0] == 100
    assert model.generation_config.eos_token_id == [3, 4] and model.num_parameters() > 10_000


class OneTwo:
    """A grammar of the token 1, then 2. Implements `Grammar` and `Matcher`."""

    def __init__(self) -> None:
        self.place = 1

    def matcher(self) -> OneTwo:
        return OneTwo()

    def fill(self, mask: np.ndarray) -> None:
        mask[:] = 0
        mask[self.place // 32] = 1 << self.place

    def accept(self, token: int) -> bool:
        is_right = token == self.place
        self.place += is_right
        return is_right

    @property
    def is_finished(self) -> bool:
        return self.place == 3


def test_grammars_are_those_that_were_compiled_for_the_request() -> None:
    """vLLM is told which tokens may come, in its own mask, and when there are none."""
    grammars = KeptGrammars(100)
    grammars.keep("7", OneTwo())
    follower = grammars.compile_grammar(None, "7", {99})
    mask = grammars.allocate_token_bitmask(3)
    assert mask.shape == (3, 4) and mask.dtype == torch.int32
    follower.fill_bitmask(mask, 1)
    assert mask[1].tolist() == [2, 0, 0, 0] and not mask[[0, 2]].any()
    assert follower.accept_tokens("7", [1]) and not follower.accept_tokens("7", [1])
    assert not follower.is_terminated() and follower.accept_tokens("7", [99, 2]) and follower.is_terminated()
