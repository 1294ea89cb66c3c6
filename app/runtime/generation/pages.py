"""Attention over pages of keys and values: for CUDA, where torch has a kernel for it.

The kernel is `torch.nn.attention.varlen.varlen_attn` with a block table (torch 2.13). It takes half precision, heads of
up to 256 numbers, pages of multiples of 256 tokens, and knows neither softcaps nor sinks. All else, and every other
device, gathers the pages and computes in plain operations: slower, and the same.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.nn.attention import varlen

from app.runtime.generation.attention import LayerCache, LayerShape, Memory

NAME = "pipeserve_paged"
PAGE_TOKENS = 256
"""The smallest page that the kernel takes (aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp)."""
_MAX_HEAD_SIZE = 256
_MIN_CAPABILITY = (8, 0)


Kernel = Callable[..., Any]
"""`varlen_attn`, or what stands in its place in tests."""
KernelOf = Callable[[LayerShape], Kernel | None]


def torch_kernel(layer: LayerShape) -> Kernel | None:
    """torch's own, for the layers that it takes."""
    knows_pages = "block_table" in inspect.signature(varlen.varlen_attn).parameters
    is_half = layer.dtype in (torch.float16, torch.bfloat16)
    fits = layer.head_size % 8 == 0 and layer.head_size <= _MAX_HEAD_SIZE
    if layer.device.type != "cuda" or not (knows_pages and is_half and fits):
        return None
    if torch.cuda.get_device_capability(layer.device) < _MIN_CAPABILITY:
        return None
    return varlen.varlen_attn


@dataclass(frozen=True, slots=True)
class PromptChunk:
    """tokens: of the packed row. sequence: its row of the tables. start, end: places in the sequence."""

    tokens: slice
    sequence: int
    start: int
    end: int


@dataclass(eq=False, slots=True)
class PagedLayout:
    """Where the packed tokens of one step belong: one token of each sequence that decodes, then chunks of prompts.

    slots: int64 [tokens], where each token's keys and values go, counted over all pages.
    starts: int32 [sequences + 1], of each sequence's tokens in the packed row.
    lengths: int32 [sequences], tokens of each, the new ones included. ends: int32 [sequences + 1], their sums.
    tables: int32 [sequences, pages]. longest_new, longest: bounds of new tokens and of lengths.
    decode_pages: of those that decode, the most pages of one.
    """

    slots: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    ends: torch.Tensor
    tables: torch.Tensor
    longest_new: int
    longest: int
    num_decodes: int
    decode_pages: int
    prompts: list[PromptChunk] = field(default_factory=list)
    elsewhere: dict[torch.device, PagedLayout] = field(default_factory=dict)

    def on(self, device: torch.device) -> PagedLayout:
        """Itself, or its copy on another device that the model is spread over: one a device and step."""
        if self.slots.device == device:
            return self
        if device not in self.elsewhere:
            tensors = {name: getattr(self, name).to(device) for name in _TENSORS}
            self.elsewhere[device] = replace(self, **tensors, elsewhere={})
        return self.elsewhere[device]


_TENSORS = ("slots", "starts", "lengths", "ends", "tables")


class Pages(Memory):
    """The memory of all pages of one model. has_gathered: whether a layer went another way than through the kernel."""

    def __init__(self, layers: list[LayerShape], device: torch.device, page_tokens: int, kernel_of: KernelOf) -> None:
        super().__init__(layers, device)
        self.layout: PagedLayout | None = None
        self.has_gathered = False
        self._page_tokens = page_tokens
        self._kernels = [kernel_of(layer) for layer in layers]
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def create(self, num_pages: int) -> None:
        """Keys and values of each layer: [pages, tokens of a page, heads, head_size]."""
        self.forget()
        self._layers = [(self._zeros(layer, num_pages), self._zeros(layer, num_pages)) for layer in self.layers]

    def _zeros(self, layer: LayerShape, num_pages: int) -> torch.Tensor:
        shape = (num_pages, self._page_tokens, layer.heads, layer.head_size)
        return torch.zeros(shape, dtype=layer.dtype, device=layer.device)

    def forget(self) -> None:
        self._layers = []

    def of(self, layer: int) -> tuple[torch.Tensor, torch.Tensor, Kernel | None]:
        return *self._layers[layer], self._kernels[layer]


# Attention


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """As `attention.attend`, over pages."""
    cache = LayerCache.of(module)
    memory: Pages = cache.memory
    assert memory.layout is not None, "A model attended without a step. This is a bug."
    layout = memory.layout.on(query.device)
    keys, values, kernel = memory.of(cache.index)
    packed_query, packed_key, packed_value = (one[0].transpose(0, 1) for one in (query, key, value))
    keys.flatten(0, 1)[layout.slots] = packed_key
    values.flatten(0, 1)[layout.slots] = packed_value
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if kernel is None or softcap is not None or s_aux is not None:
        memory.has_gathered = True
        scoring = _Scoring(scale, sliding_window, softcap, s_aux)
        return _gathered(packed_query, keys, values, layout, scoring)[None], None
    output = kernel(
        packed_query,
        keys,
        values,
        layout.starts,
        layout.ends,
        layout.longest_new,
        layout.longest,
        scale=scale,
        window_size=_window(sliding_window, layout),
        enable_gqa=query.shape[1] != key.shape[1],
        seqused_k=layout.lengths,
        block_table=layout.tables,
    )
    return output[None], None


def _window(sliding_window: int | None, layout: PagedLayout) -> tuple[int, int]:
    """How far a token sees back, itself excluded, and ahead. A step that only decodes needs no causal mask; without one
    the kernel takes the heads that share keys together."""
    if sliding_window is not None and sliding_window < layout.longest:
        return sliding_window - 1, 0
    return (-1, -1) if layout.longest_new == 1 else (-1, 0)


@dataclass(frozen=True, slots=True)
class _Scoring:
    """window: tokens that one sees, itself included. sinks: [heads], logits of a place that is no token's."""

    scale: float
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None


def _gathered(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: PagedLayout, scoring: _Scoring
) -> torch.Tensor:
    """[tokens, heads, head_size], as the query."""
    output = torch.empty_like(query)
    num_decodes = layout.num_decodes
    if num_decodes:
        tables = layout.tables[:num_decodes, : layout.decode_pages]
        positions = layout.lengths[:num_decodes, None] - 1
        seen = keys[tables].flatten(1, 2), values[tables].flatten(1, 2)
        output[:num_decodes] = _attend_padded(query[:num_decodes, None], *seen, positions, scoring)[:, 0]
    for chunk in layout.prompts:
        table = layout.tables[chunk.sequence, : math.ceil(chunk.end / keys.shape[1])]
        positions = torch.arange(chunk.start, chunk.end, device=query.device)
        seen = keys[table].flatten(0, 1)[None], values[table].flatten(0, 1)[None]
        output[chunk.tokens] = _attend_padded(query[None, chunk.tokens], *seen, positions[None], scoring)[0]
    return output


def _attend_padded(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor, scoring: _Scoring
) -> torch.Tensor:
    """query: [sequences, tokens, heads, head_size]. keys, values: [sequences, places, key heads, head_size].
    positions: [sequences, tokens], ascending."""
    places = torch.arange(keys.shape[1], device=query.device)
    num_sequences, num_tokens, _, size = query.shape
    grouped = query.reshape(num_sequences, num_tokens, keys.shape[2], -1, size)
    scores = torch.einsum("nqhgd,nkhd->nhgqk", grouped, keys).float() * scoring.scale
    if scoring.softcap is not None:
        scores = torch.tanh(scores / scoring.softcap) * scoring.softcap
    hidden = places > positions[..., None]
    if scoring.window is not None:
        hidden |= places <= positions[..., None] - scoring.window
    scores = scores.masked_fill_(hidden[:, None, None], -torch.inf)
    if scoring.sinks is not None:
        more = scoring.sinks.float().view(1, *scores.shape[1:3], 1, 1).expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, more], dim=-1)
    weights = scores.softmax(-1)[..., : keys.shape[1]].to(values.dtype)
    # A page may hold what another sequence left there: NaN times 0 is NaN.
    values = values.masked_fill((places > positions[:, -1:])[..., None, None], 0)
    return torch.einsum("nhgqk,nkhd->nqhgd", weights, values).flatten(2, 3)
