"""Linear layers whose weights lie as oneDNN wants them: on a CPU, twice as fast for few rows, where reading the weights
is most of the work."""

from __future__ import annotations

import torch
from torch import nn

_ROWS = 32
"""For which oneDNN chooses the order; others are nearly as fast (docs/lab-log.md)."""


class PackedLinear(nn.Module):
    """Computes what the layer did that it stands for. weight: its shape alone, the numbers are packed."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = torch.empty(layer.weight.shape, dtype=layer.weight.dtype, device="meta")
        self._packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _ROWS)
        self._bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, "none", [], "")
        return result


def can_pack(model: nn.Module) -> bool:
    """Whether the model is on a CPU, in a type that oneDNN computes there."""
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    if parameter.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return parameter.dtype == torch.float32


def pack(model: nn.Module) -> int:
    """Pack all linear layers of the model, its output layer included; the unpacked weights are let go, unless others
    share them (tied embeddings). Returns how many. Layers of other classes stay as they are."""
    num_packed = 0
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, PackedLinear(layer))
                num_packed += 1
    return num_packed
