"""Attention over rows of keys and values, in the place of a transformers model's own.

transformers calls the function registered as NAME with one packed row of tokens: those that decode first, grouped by
the rows that they lie in, then the chunks of prompts. It writes their keys and values and attends, each token to its
own sequence's row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, PreTrainedModel

NAME = "pipeserve"
_CACHE = "_pipeserve_keys_and_values"


@dataclass(eq=False, slots=True)
class DecodeGroup:
    """Neighbouring rows of a slab that decode: one token each.

    tokens: their place in the packed row. first, last: rows of the slab. rows: the index of each token's row, counted
    from `first`; positions: of the new tokens. longest: tokens of the longest, the new one included.
    """

    tokens: slice
    slab_id: int
    first: int
    last: int
    rows: torch.Tensor
    positions: torch.Tensor
    longest: int
    masks: dict[int | None, torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> DecodeGroup:
        return replace(self, rows=self.rows.to(device), positions=self.positions.to(device), masks={})

    def mask(self, window: int | None) -> torch.Tensor:
        """float32 [rows, 1, 1, longest]: 0 for what a token sees, else -inf. window: how far back, itself included."""
        if window not in self.masks:
            num_rows = self.last - self.first
            position = torch.zeros(num_rows, dtype=torch.long, device=self.positions.device)
            position[self.rows] = self.positions
            places = torch.arange(self.longest, device=position.device)
            hidden = places[None] > position[:, None]
            if window is not None:
                hidden |= places[None] <= position[:, None] - window
            mask = torch.zeros(num_rows, self.longest, device=position.device)
            self.masks[window] = mask.masked_fill_(hidden, -torch.inf)[:, None, None]
        return self.masks[window]


@dataclass(eq=False, slots=True)
class PrefillChunk:
    """Tokens of one prompt: the row's `start` and as many from there as `tokens` has places."""

    tokens: slice
    slab_id: int
    row: int
    start: int
    masks: dict[tuple[int | None, torch.device], torch.Tensor] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.start + int(self.tokens.stop) - int(self.tokens.start)

    def mask(self, window: int | None, device: torch.device) -> torch.Tensor:
        """bool [tokens, end]: what each sees."""
        if (window, device) not in self.masks:
            position = torch.arange(self.start, self.end, device=device)[:, None]
            places = torch.arange(self.end, device=device)[None]
            seen = places <= position
            if window is not None:
                seen &= places > position - window
            self.masks[window, device] = seen
        return self.masks[window, device]


@dataclass(eq=False, slots=True)
class Layout:
    """Where the packed tokens of one step belong."""

    decodes: list[DecodeGroup] = field(default_factory=list)
    prefills: list[PrefillChunk] = field(default_factory=list)
    elsewhere: dict[torch.device, Layout] = field(default_factory=dict)

    def on(self, device: torch.device) -> Layout:
        """Itself, or its copy on another device that the model is spread over: one a device and step."""
        if not self.decodes or self.decodes[0].rows.device == device:
            return self
        if device not in self.elsewhere:
            decodes = [group.to(device) for group in self.decodes]
            self.elsewhere[device] = Layout(decodes, self.prefills)
        return self.elsewhere[device]


@dataclass(frozen=True, slots=True)
class LayerShape:
    """heads and head_size: of keys and values. device: that the layer computes on."""

    heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def num_bytes(self) -> int:
        """Of one number."""
        return torch.empty(0, dtype=self.dtype).element_size()


class Memory:
    """Of keys and values. Owned by the device thread. layers: in the order in which they attend. device: that takes the
    tokens."""

    def __init__(self, layers: list[LayerShape], device: torch.device) -> None:
        self.layers = layers
        self.device = device

    @property
    def bytes_per_token(self) -> dict[torch.device, int]:
        """By device."""
        each: dict[torch.device, int] = {}
        for layer in self.layers:
            num_bytes = 2 * layer.heads * layer.head_size * layer.num_bytes
            each[layer.device] = each.get(layer.device, 0) + num_bytes
        return each


class KeysAndValues(Memory):
    """The memory of all slabs of one model."""

    def __init__(self, layers: list[LayerShape], device: torch.device) -> None:
        super().__init__(layers, device)
        self._slabs: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self.layout: Layout | None = None

    def create(self, slab_id: int, num_rows: int, capacity: int) -> None:
        """Keys and values of each layer: [rows, heads, capacity, head_size]."""
        self._slabs[slab_id] = [
            (self._empty(layer, num_rows, capacity), self._empty(layer, num_rows, capacity)) for layer in self.layers
        ]

    def _empty(self, layer: LayerShape, num_rows: int, capacity: int) -> torch.Tensor:
        # Zeros: what stands behind a row's end is multiplied by 0, which NaN would survive.
        shape = (num_rows, layer.heads, capacity, layer.head_size)
        return torch.zeros(shape, dtype=layer.dtype, device=layer.device)

    def drop(self, slab_id: int) -> None:
        del self._slabs[slab_id]

    def forget(self) -> None:
        self._slabs.clear()

    def copy(self, source: tuple[int, int], target: tuple[int, int], num_tokens: int) -> None:
        """source, target: slab and row."""
        pairs = zip(self._slabs[source[0]], self._slabs[target[0]], strict=True)
        for old, new in pairs:
            for kind in (0, 1):
                new[kind][target[1], :, :num_tokens] = old[kind][source[1], :, :num_tokens]

    def of(self, slab_id: int, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._slabs[slab_id][layer]


@dataclass(eq=False, slots=True)
class LayerCache:
    """What one attention module finds its keys and values by. memory: of what the attention function works with."""

    memory: Any
    index: int

    @staticmethod
    def of(module: torch.nn.Module) -> LayerCache:
        cache: LayerCache = getattr(module, _CACHE)
        return cache


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
    """query: [1, heads, tokens, head_size]; key, value: [1, key heads, tokens, head_size]. Returns [1, tokens, heads,
    head_size] (transformers' interface, version 5.23)."""
    cache = LayerCache.of(module)
    store: KeysAndValues = cache.memory
    layout = store.layout
    assert layout is not None, "A model attended without a step. This is a bug."
    layout = layout.on(query.device)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    output = torch.empty_like(query)
    for group in layout.decodes:
        keys, values = store.of(group.slab_id, cache.index)
        _decode(group, (query, key, value), keys, values, output, scale, sliding_window, softcap, s_aux)
    for chunk in layout.prefills:
        keys, values = store.of(chunk.slab_id, cache.index)
        _prefill(chunk, (query, key, value), keys, values, output, scale, sliding_window, softcap, s_aux)
    return output.transpose(1, 2), None


def _decode(
    group: DecodeGroup,
    packed: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    keys: torch.Tensor,
    values: torch.Tensor,
    output: torch.Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> None:
    """All rows of the group in one product, rows between them that do not decode included."""
    query, key, value = (one[0, :, group.tokens].transpose(0, 1) for one in packed)  # [tokens, heads, head_size]
    keys, values = keys[group.first : group.last], values[group.first : group.last]
    keys[group.rows, :, group.positions] = key
    values[group.rows, :, group.positions] = value
    num_tokens, heads, size = query.shape
    num_rows, key_heads = keys.shape[:2]
    grouped = query.reshape(num_tokens, key_heads, heads // key_heads, size)
    if num_rows != num_tokens:
        spread = grouped.new_zeros(num_rows, *grouped.shape[1:])
        spread[group.rows] = grouped
        grouped = spread
    # The queries of one key head are rows of one product: an order of magnitude faster than SDPA on CPU.
    scores = torch.matmul(grouped, keys[:, :, : group.longest].transpose(-1, -2)).float() * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores += group.mask(window)
    weights = _softmax(scores, sinks, heads).to(values.dtype)
    attended = torch.matmul(weights, values[:, :, : group.longest]).reshape(num_rows, heads, size)
    output[0, :, group.tokens] = (attended if num_rows == num_tokens else attended[group.rows]).transpose(0, 1)


def _softmax(scores: torch.Tensor, sinks: torch.Tensor | None, heads: int) -> torch.Tensor:
    """scores: [rows, key heads, queries of a key head, places], or [heads, tokens, places]. sinks: [heads], logits
    of a place that is no token's."""
    if sinks is None:
        return scores.softmax(-1)
    shape = (1, *scores.shape[1:3], 1) if scores.dim() == 4 else (heads, 1, 1)
    more = sinks.float().reshape(shape).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, more], dim=-1).softmax(-1)[..., :-1]


def _prefill(
    chunk: PrefillChunk,
    packed: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    keys: torch.Tensor,
    values: torch.Tensor,
    output: torch.Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> None:
    query, key, value = (one[:, :, chunk.tokens] for one in packed)
    keys, values = keys[chunk.row], values[chunk.row]  # [key heads, capacity, head_size]
    keys[:, chunk.start : chunk.end] = key[0]
    values[:, chunk.start : chunk.end] = value[0]
    keys, values = keys[None, :, : chunk.end], values[None, :, : chunk.end]
    if softcap is None and sinks is None:
        is_causal = chunk.start == 0 and (window is None or window >= chunk.end)
        mask = None if is_causal else chunk.mask(window, query.device)
        is_grouped = query.shape[1] != keys.shape[1]
        output[:, :, chunk.tokens] = F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=is_grouped
        )
        return
    repeats = query.shape[1] // keys.shape[1]
    keys, values = keys[0].repeat_interleave(repeats, 0), values[0].repeat_interleave(repeats, 0)
    scores = torch.matmul(query[0], keys.transpose(-1, -2)).float() * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~chunk.mask(window, query.device), -torch.inf)
    weights = _softmax(scores, sinks, query.shape[1]).to(values.dtype)
    output[0, :, chunk.tokens] = torch.matmul(weights, values)


# Putting it into a model


class NotPossible(Exception):
    """The model cannot attend over rows of keys and values: says why."""


class _Probe:
    """Sees the attention modules of a model, and the shapes of their keys and values, in one forward."""

    def __init__(self) -> None:
        self.modules: list[torch.nn.Module] = []
        self.layers: list[LayerShape] = []

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *args: Any,
        **kw: Any,
    ) -> tuple[torch.Tensor, None]:
        if module in self.modules:
            raise NotPossible("a layer attends twice")
        if key.shape != value.shape or query.shape[-1] != key.shape[-1]:
            raise NotPossible("keys and values differ in size")
        if query.shape[1] % key.shape[1] or query.shape[2] != key.shape[2]:
            raise NotPossible("queries and keys differ in number")
        if kw.get("position_bias") is not None:
            raise NotPossible("its attention has a bias of its own")
        self.modules.append(module)
        self.layers.append(LayerShape(key.shape[1], key.shape[-1], key.dtype, key.device))
        return torch.zeros_like(query).transpose(1, 2), None


_Memory = TypeVar("_Memory", bound=Memory)


def install(
    model: PreTrainedModel, forward: Callable[[], object], make: Callable[[list[LayerShape], torch.device], _Memory]
) -> _Memory:
    """Find the model's attention in one forward of two tokens, and have each module find its keys and values.

    The model attends as before outside `implementation`. Raises NotPossible.
    """
    probe = _Probe()
    with implementation(model, f"{NAME}_probe", probe):
        forward()
    if not probe.modules:
        raise NotPossible("it calls no attention function")
    memory = make(probe.layers, model.device)
    for index, module in enumerate(probe.modules):
        setattr(module, _CACHE, LayerCache(memory, index))
    return memory


def attend_to_nothing(
    module: torch.nn.Module, query: torch.Tensor, *args: Any, **others: Any
) -> tuple[torch.Tensor, None]:
    """For a forward of which only the shapes matter."""
    return torch.zeros_like(query).transpose(1, 2), None


@contextmanager
def implementation(model: PreTrainedModel, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Within, the model attends by the function. A name without a mask function has transformers make no mask."""
    AttentionInterface.register(name, function)
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
