"""In the place of torch's kernel, which is CUDA's alone: takes what it takes, refuses what it refuses, and computes
each sequence by itself."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn

from app.runtime.generation.attention import LayerShape
from app.runtime.generation.pages import Kernel

_SIGNATURE = inspect.signature(varlen_attn)


class CountingKernel:
    """multiple_of: what pages must be multiples of; torch says 256."""

    def __init__(self, multiple_of: int = 256) -> None:
        self.num_calls = 0
        self._multiple_of = multiple_of

    def of(self, layer: LayerShape) -> Kernel:
        return self

    def __call__(self, *args: Any, **keywords: Any) -> torch.Tensor:
        self.num_calls += 1
        bound = _SIGNATURE.bind(*args, **keywords)
        bound.apply_defaults()
        given = bound.arguments
        self._check(given)
        return torch.cat([_one(given, number) for number in range(len(given["seqused_k"]))])

    def _check(self, given: dict[str, Any]) -> None:
        """As aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp does."""
        query, keys, tables = given["query"], given["key"], given["block_table"]
        num_sequences = len(given["cu_seq_q"]) - 1
        for name in ("cu_seq_q", "cu_seq_k", "seqused_k", "block_table"):
            assert given[name].dtype == torch.int32 and given[name].is_contiguous(), name
        assert given["cu_seq_k"].shape == (num_sequences + 1,) and given["seqused_k"].shape == (num_sequences,)
        assert tables.shape[0] == num_sequences and int(given["cu_seq_q"][-1]) == len(query)
        assert keys.shape == given["value"].shape and keys.shape[2:] == (keys.shape[2], query.shape[2])
        assert keys.shape[1] % self._multiple_of == 0
        assert query.stride(-1) == keys.stride(-1) == 1
        assert given["enable_gqa"] or query.shape[1] == keys.shape[2]
        assert 0 <= int(tables.min()) and int(tables.max()) < keys.shape[0]
        num_new = given["cu_seq_q"].diff()
        assert int(num_new.max()) <= given["max_q"] and int(given["seqused_k"].max()) <= given["max_k"]
        assert given["max_k"] <= tables.shape[1] * keys.shape[1]


def _one(given: dict[str, Any], number: int) -> torch.Tensor:
    first, last = given["cu_seq_q"][number : number + 2].tolist()
    length = int(given["seqused_k"][number])
    query = given["query"][first:last].transpose(0, 1)
    table = given["block_table"][number].long()
    keys, values = (given[name][table].flatten(0, 1)[:length].transpose(0, 1) for name in ("key", "value"))
    behind, ahead = given["window_size"]
    places = torch.arange(length, device=query.device)
    distance = places[None] - places[length - query.shape[1] :, None]
    seen = torch.ones_like(distance, dtype=torch.bool)
    if ahead >= 0:
        seen &= distance <= ahead
    if behind >= 0:
        seen &= -distance <= behind
    return F.scaled_dot_product_attention(
        query[None], keys[None], values[None], attn_mask=seen, scale=given["scale"], enable_gqa=True
    )[0].transpose(0, 1)
