"""Linear layers whose weights lie as a CPU reads them fastest, in the fewest bytes that hold them.

For few rows reading the weights is most of the work: half the bytes are twice the speed (docs/lab-log.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_ROWS = 32
"""For which oneDNN chooses the order; others are nearly as fast (docs/lab-log.md)."""
_HALF_ROUNDS_BY = 2.0**-25
"""The most by which float16 rounds a weight of bfloat16 that is below its normal numbers: less than float32 loses in
adding up a layer's products."""
_ROWS_AT_ONCE = 1024
"""Of a weight that are looked at together: an output layer has 100,000 and more."""


class PackedLinear(nn.Module):
    """Computes what the layer did that it stands for. weight: its shape alone, the numbers are packed."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = torch.empty(layer.weight.shape, dtype=dtype, device="meta")


class OneDnnLinear(PackedLinear):
    """In oneDNN's own order, in the layer's type."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer, layer.weight.dtype)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _ROWS)
        self._bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, "none", [], "")
        return result


class HalfLinear(PackedLinear):
    """Weights held as float16, computed in float32 (FBGEMM), whatever the type of the rows."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer, torch.float32)
        bias = None if layer.bias is None else layer.bias.detach().float()
        self._packed: Any = torch.ops.quantized.linear_prepack_fp16(layer.weight.detach().float(), bias)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.quantized.linear_dynamic_fp16(rows.float(), self._packed)
        return result.to(rows.dtype)


def computes(dtype: torch.dtype) -> bool:
    """Whether this CPU has instructions for the type, rather than converting each number: ten times slower and more."""
    if dtype == torch.bfloat16:
        return bool(torch._C._has_mkldnn) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype != torch.float16


def pack(model: nn.Module, make: Callable[[nn.Linear], PackedLinear | None] | None = None) -> int:
    """Pack the linear layers of a model on a CPU, its output layer included; the unpacked weights are let go, unless
    others share them (tied embeddings). Returns how many. Layers of other classes, those whose weights are another
    library's, and those for which `make` (unless given: `packed_layer`) has nothing stay as they are."""
    make = make or packed_layer
    num_packed = 0
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is not nn.Linear or type(layer.weight.data) is not torch.Tensor:
                continue
            if (packed := make(layer)) is not None:
                setattr(parent, name, packed)
                num_packed += 1
    return num_packed


def packed_layer(layer: nn.Linear) -> PackedLinear | None:
    """Without loss: in float16 if the layer computes in float32, or in a type that this CPU does not compute in, and
    float16 holds its weights, as it does those of nearly all checkpoints in half precision."""
    dtype = layer.weight.dtype
    if (dtype == torch.float32 or not computes(dtype)) and _fits_half(layer.weight.detach()):
        return HalfLinear(layer)
    if dtype in (torch.float32, torch.bfloat16) and computes(dtype) and torch._C._has_mkldnn:
        return OneDnnLinear(layer)
    return None


def _fits_half(weight: torch.Tensor) -> bool:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    pieces = torch.split(weight, _ROWS_AT_ONCE)
    return all(float((piece.half().float() - piece.float()).abs().max()) <= _HALF_ROUNDS_BY for piece in pieces)
