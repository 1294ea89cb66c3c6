"""Packed weights: the same numbers in another order, or in fewer bytes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from app.runtime.generation.gate import runner_of
from app.runtime.packing import HalfLinear, OneDnnLinear, computes, pack, packed_layer
from tests.runtime.generation.families import build

_HAS_FBGEMM = "fbgemm" in torch.backends.quantized.supported_engines
needs_fbgemm = pytest.mark.skipif(not _HAS_FBGEMM, reason="torch is built without FBGEMM for this processor")


def _layer(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 64, bias=bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_in_onednns_order_computes_what_the_layer_did(dtype: torch.dtype, bias: bool) -> None:
    """For one row and for many; to the rounding of the type."""
    layer = _layer(bias).to(dtype)
    if not computes(dtype):
        pytest.skip("this CPU computes no bfloat16")
    packed = OneDnnLinear(layer)
    for rows in (1, 7, 200):
        given = torch.randn(1, rows, 96).to(dtype)
        torch.testing.assert_close(
            packed(given), layer(given), rtol=2e-2, atol=2e-2 if dtype != torch.float32 else 1e-5
        )


@needs_fbgemm
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_held_as_float16_is_as_exact_as_float32(dtype: torch.dtype, bias: bool) -> None:
    """Against float64, on the weights of a checkpoint in half precision: an error of float32's size, 1e-6."""
    layer = _layer(bias).to(dtype)
    packed = HalfLinear(layer)
    for rows in (1, 7, 200):
        given = torch.randn(1, rows, 96)
        expected = _layer(bias).to(dtype).double()(given.double())
        torch.testing.assert_close(packed(given).double(), expected, rtol=0, atol=4e-6)
    assert packed(given.to(dtype)).dtype == dtype


@needs_fbgemm
def test_float16_holds_what_it_can_hold_without_loss() -> None:
    """The weights of a checkpoint in bfloat16 or float16; none that use all of float32's digits or reach."""
    assert isinstance(packed_layer(_layer().bfloat16().float()), HalfLinear)
    assert isinstance(packed_layer(_layer().half().float()), HalfLinear)
    assert isinstance(packed_layer(_layer()), OneDnnLinear)
    large = _layer().bfloat16().float()
    with torch.no_grad():
        large.weight[3, 5] = 70000.0
    assert isinstance(packed_layer(large), OneDnnLinear)


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
