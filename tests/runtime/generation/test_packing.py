"""Packed weights: the same numbers in another order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from app.runtime.generation.gate import runner_of
from app.runtime.generation.packing import PackedLinear, can_pack, pack
from tests.runtime.generation.families import build


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_layer_computes_what_the_layer_did(dtype: torch.dtype, bias: bool) -> None:
    """For one row and for many; to the rounding of the type."""
    torch.manual_seed(0)
    layer = nn.Linear(96, 64, bias=bias).to(dtype)
    if not can_pack(layer):
        pytest.skip("this CPU computes no bfloat16")
    packed = PackedLinear(layer)
    for rows in (1, 7, 200):
        given = torch.randn(1, rows, 96).to(dtype)
        torch.testing.assert_close(
            packed(given), layer(given), rtol=2e-2, atol=2e-2 if dtype != torch.float32 else 1e-5
        )


def test_packed_model_stays_inside_the_gate() -> None:
    """And has let go of the weights that nobody shares."""
    model = build("qwen2", tie_word_embeddings=True)
    before = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert pack(model) == 2 * 7 + 1
    assert [name for name, _ in model.named_parameters() if "weight" in name and "norm" not in name] == [
        "model.embed_tokens.weight"
    ]
    torch.testing.assert_close(model(input_ids=torch.tensor([[5, 6, 7]])).logits, before, rtol=1e-4, atol=1e-4)
    assert runner_of(model).vocabulary_size == 160
