"""`python -m bench.linear`: the ways to hold a linear layer's weights on this CPU, for as many rows as a step has.

Billions of operations a second of one thread, of the best of several runs over enough layers not to fit into the
caches. Weights are those of a checkpoint in bfloat16. Prints a Markdown table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from app.runtime.packing import HalfLinear, OneDnnLinear, computes

ROWS = (1, 4, 8, 32, 128, 512)
SHAPES = ((768, 2048), (2048, 768))
NUM_LAYERS = 20
GROUP = 32
"""Weights of int4 that share a scale."""

Layer = Callable[[torch.Tensor], torch.Tensor]


def plain(layer: nn.Linear, dtype: torch.dtype) -> Layer:
    weight = layer.weight.detach().to(dtype)
    return lambda rows: F.linear(rows.to(dtype), weight)


def int8_weights(layer: nn.Linear) -> Layer:
    """A scale for each output, computed in bfloat16 (torch's kernel for float32 is slower still)."""
    weight = layer.weight.detach()
    scales = weight.abs().amax(1) / 127
    packed = torch.round(weight / scales[:, None]).to(torch.int8)
    halves = scales.bfloat16()
    return lambda rows: torch._weight_int8pack_mm(rows.bfloat16(), packed, halves)


def int4_weights(layer: nn.Linear) -> Layer:
    groups = layer.weight.detach().reshape(layer.out_features, -1, GROUP)
    lowest = groups.amin(-1, keepdim=True)
    scales = ((groups.amax(-1, keepdim=True) - lowest) / 15).clamp(min=1e-6)
    numbers = torch.round((groups - lowest) / scales).to(torch.int32).reshape(layer.out_features, -1)
    packed = torch._convert_weight_to_int4pack_for_cpu(numbers, 1)
    both = torch.stack([scales[..., 0], (lowest + 8 * scales)[..., 0]], -1).transpose(0, 1).contiguous().bfloat16()
    return lambda rows: torch._weight_int4pack_mm_for_cpu(rows.bfloat16(), packed, GROUP, both)


def ways() -> dict[str, Callable[[nn.Linear], Layer]]:
    made: dict[str, Callable[[nn.Linear], Layer]] = {
        "float32": lambda layer: plain(layer, torch.float32),
        "float32, oneDNN's order": OneDnnLinear,
        "float16 weights, FBGEMM": HalfLinear,
        "bfloat16": lambda layer: plain(layer, torch.bfloat16),
        "int8 weights": int8_weights,
        "int4 weights": int4_weights,
    }
    if computes(torch.bfloat16):
        made["bfloat16, oneDNN's order"] = lambda layer: _in_bfloat16(OneDnnLinear(layer.bfloat16()))
    return made


def _in_bfloat16(layer: Any) -> Layer:
    return lambda rows: layer(rows.bfloat16())


def speed(layers: list[Layer], rows: torch.Tensor, operations: float) -> float:
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        for layer in layers:
            layer(rows)
        best = min(best, time.perf_counter() - began)
    return operations / best / 1e9


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread\n")
    print(f"| in × out | weights | {' | '.join(f'{count} rows' for count in ROWS)} |")
    print("|---" * (len(ROWS) + 2) + "|")
    with torch.inference_mode():
        for inputs, outputs in SHAPES:
            for name, make in ways().items():
                layers = [make(nn.Linear(inputs, outputs, bias=False).bfloat16().float()) for _ in range(NUM_LAYERS)]
                found = [
                    speed(layers, torch.randn(count, inputs), 2.0 * count * inputs * outputs * NUM_LAYERS)
                    for count in ROWS
                ]
                print(f"| {inputs} × {outputs} | {name} | {' | '.join(f'{one:.1f}' for one in found)} |", flush=True)


if __name__ == "__main__":
    main()
