"""Texts of different lengths in one forward of an encoder, without padding.

Their tokens lie one after the other in one row [1, tokens], so that layers compute nothing but tokens; each text
attends to itself alone. Where the encoder's layers end, the texts are put side by side again, so that heads and
whoever reads the output see what they see of a padded batch: nobody but the model's `forward` knows.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface, PreTrainedModel, PreTrainedTokenizerBase

from app.runtime.collating import Collator
from app.runtime.generation.attention import LayerShape, NotPossible
from app.runtime.generation.pages import Kernel, torch_kernel
from app.runtime.packing import PackedLinear
from app.runtime.quantizing import is_quantised_by_transformers
from app.runtime.tokenizing import Row, position_offset

logger = logging.getLogger(__name__)

NAME = "pipeserve_texts"
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
_ROUNDED_TOLERANCE = 0.05
"""Of the greatest output, where layers round more than float32 does: far from what a wrong position or mask does."""
_CHECKED_LENGTHS = (3, 11, 7)
_BAD_MODEL = (AttributeError, IndexError, KeyError, NotPossible, RuntimeError, TypeError, ValueError)
"""What a model's own code raises for inputs that it was not made for."""


def unpad(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have the model's `forward` compute no padding, if that changes none of its answers: compared here, with a few
    texts. Call it on the device thread."""
    padded = model.forward
    try:
        model.forward = Unpadded(model)
        _compare(model, tokenizer, padded)
    except _BAD_MODEL as reason:
        model.forward = padded
        logger.info("a %s computes texts with their padding: %s", type(model).__name__, reason)


def is_unpadded(model: PreTrainedModel) -> bool:
    return isinstance(model.forward, Unpadded)


class Unpadded:
    """In place of a model's `forward`. Owned by the device thread."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Raises NotPossible, with the reason."""
        _require_encoder(model)
        functools.update_wrapper(self, model.forward)  # its parameters' names are looked at
        self._padded: Callable[..., Any] = model.forward
        self._config = model.config
        self._end = _end_of_layers(model)
        self._first_position = position_offset(model)
        AttentionInterface.register(NAME, attend)

    def __call__(self, *arguments: Any, **inputs: Any) -> Any:
        """Without padding where `input_ids` and `attention_mask`, both [rows, width], are among the inputs."""
        is_batch = not arguments and all(inputs.get(name) is not None for name in ("input_ids", "attention_mask"))
        is_inside = "cu_seq_lens_q" in inputs  # of a model with a head, which has seen to it
        texts = self._texts(**inputs) if is_batch and not is_inside else None
        if texts is None:
            return self._padded(*arguments, **inputs)
        with self._attending(), self._ending_with(texts.apart):
            return self._padded(**texts.packed(inputs))

    def _texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **others: Any) -> Texts | None:
        """None: a batch that has no padding."""
        is_token = attention_mask.bool()
        lengths = is_token.sum(1, dtype=torch.int32)
        if int(lengths.sum()) == is_token.numel():
            return None
        positions = others.get("position_ids")
        if positions is None:
            if self._first_position and bool((input_ids[is_token] == self._first_position - 1).any()):
                return None  # a text that spells the padding's token, which RoBERTa does not count as a position
            positions = is_token.cumsum(1) - 1 + self._first_position
        places = is_token.flatten().nonzero()[:, 0]
        return Texts(is_token.shape, places, lengths, positions.flatten()[places][None])

    @contextmanager
    def _attending(self) -> Iterator[None]:
        """Under a name that transformers makes no masks for. (`set_attn_implementation` takes half a millisecond.)"""
        before = self._config._attn_implementation
        self._config._attn_implementation = NAME
        try:
            yield
        finally:
            self._config._attn_implementation = before

    @contextmanager
    def _ending_with(self, change: Callable[[Any], Any]) -> Iterator[None]:
        """Within, what the last layer computes is changed by that."""
        handle = self._end.register_forward_hook(lambda module, inputs, output: change(output))
        try:
            yield
        finally:
            handle.remove()


@dataclass(frozen=True, slots=True)
class Texts:
    """Of one batch. shape: rows and width. places: [tokens], of each token in the flattened batch. lengths: int32
    [rows]. positions: [1, tokens]."""

    shape: torch.Size
    places: torch.Tensor
    lengths: torch.Tensor
    positions: torch.Tensor

    def packed(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs of tokens [rows, width] as [1, tokens], and the lengths, in the words of transformers' attention
        functions (`FlashAttentionKwargs`). The mask stays for heads, which see the texts apart."""
        ends = F.pad(self.lengths.cumsum(0, dtype=torch.int32), (1, 0))
        longest = int(self.lengths.max())
        packed = {
            name: value.flatten()[self.places][None] if self._is_of_tokens(name, value) else value
            for name, value in inputs.items()
        }
        lengths = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
        return {**packed, **lengths, "position_ids": self.positions}

    def _is_of_tokens(self, name: str, value: Any) -> bool:
        return name != "attention_mask" and isinstance(value, torch.Tensor) and value.shape == self.shape

    def apart(self, output: Any) -> Any:
        """The output of an encoder's layers, its vectors [1, tokens, size] as [rows, width, size]: 0 in the padding."""
        if isinstance(output, torch.Tensor):
            apart = output.new_zeros(self.shape.numel(), output.shape[-1])
            apart[self.places.to(output.device)] = output[0]
            return apart.view(*self.shape, -1)
        if isinstance(output, tuple):
            return (self.apart(output[0]), *output[1:])
        output.last_hidden_state = self.apart(output.last_hidden_state)
        return output


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Each text to itself. query: [1, heads, tokens, size]. Returns [1, tokens, heads, size] (transformers' interface,
    version 5.23)."""
    if cu_seq_lens_q is None:
        raise NotPossible("its layers do not hand the lengths on")
    if others.get("is_causal", getattr(module, "is_causal", False)):
        raise NotPossible("its tokens see only those before them")
    unknown = [name for name in ("position_bias", "softcap", "s_aux") if others.get(name) is not None]
    if unknown:
        raise NotPossible(f"its attention has a {unknown[0]}")
    if query.device.type == "cpu":
        lengths = cu_seq_lens_q.diff().tolist()
        return text_by_text(query, key, value, lengths, scaling, sliding_window), None
    kernel = torch_kernel(LayerShape(key.shape[1], key.shape[-1], key.dtype, key.device))
    if kernel is None:
        raise NotPossible("torch has no kernel for texts of different lengths here")
    ends = cu_seq_lens_q.to(query.device)
    return by_kernel(kernel, query, key, value, ends, max_length_q, scaling, sliding_window), None


def by_kernel(
    kernel: Kernel,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    longest: int,
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    """ends: int32 [texts + 1], 0 before them."""
    reach = -1 if window is None else window - 1
    attended: torch.Tensor = kernel(
        *(one[0].transpose(0, 1) for one in (query, key, value)),
        ends,
        ends,
        longest,
        longest,
        scale=scale,
        window_size=(reach, reach),
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return attended[None]


def text_by_text(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: list[int],
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    """As fast on a CPU as texts of one length together, and faster than any one call for all (docs/lab-log.md)."""
    is_grouped = key.shape[1] != query.shape[1]
    queries, keys, values = (torch.split(one, lengths, dim=2) for one in (query, key, value))
    attended = [
        F.scaled_dot_product_attention(
            own_query, own_key, own_value, attn_mask=_near(own_query, window), scale=scale, enable_gqa=is_grouped
        )
        for own_query, own_key, own_value in zip(queries, keys, values, strict=True)
    ]
    return torch.cat([own.transpose(1, 2) for own in attended], dim=1)


def _near(query: torch.Tensor, window: int | None) -> torch.Tensor | None:
    """bool [tokens, tokens]: which are less than a window apart; None: all."""
    num_tokens = query.shape[2]
    if window is None or window >= num_tokens:
        return None
    places = torch.arange(num_tokens, device=query.device)
    return (places[:, None] - places[None]).abs() < window


def _require_encoder(model: PreTrainedModel) -> None:
    """Raises NotPossible for what is not worth a try."""
    if not getattr(model, "_supports_attention_backend", False):
        raise NotPossible("its attention cannot be replaced")
    if model.config._attn_implementation != "sdpa":
        raise NotPossible(f"its attention is {model.config._attn_implementation}")
    if getattr(model.config, "is_encoder_decoder", False):
        raise NotPossible("it has a decoder")


def _end_of_layers(model: PreTrainedModel) -> nn.Module:
    """The module whose output is that of the encoder's last layer: this layer, or what calls layers that are shared
    (ALBERT)."""
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList):
            is_of_layers = len(module) == model.config.num_hidden_layers
            return module[-1] if is_of_layers else model.get_submodule(name.rpartition(".")[0])
    raise NotPossible("it has no list of layers")


@torch.inference_mode()
def _compare(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, padded: Callable[..., Any]) -> None:
    """Raises NotPossible if outputs differ by more than float noise."""
    rows = _rows(model, tokenizer)
    inputs = Collator(model, tokenizer).collate(rows)
    expected, computed = padded(**inputs)[0], model(**inputs)[0]
    if expected.shape != computed.shape:
        raise NotPossible("its outputs have another shape")
    if expected.shape[:2] == inputs["input_ids"].shape:  # of tokens: those of the padding are nobody's
        is_token = inputs["attention_mask"].bool().to(expected.device)
        expected, computed = expected[is_token], computed[is_token]
    difference = float((expected - computed).abs().max()) / (float(expected.abs().max()) or 1.0)
    tolerance = _ROUNDED_TOLERANCE if _is_quantised(model) else _TOLERANCE.get(model.dtype, _ROUNDED_TOLERANCE)
    if not difference <= tolerance:
        raise NotPossible(f"its outputs differ by {difference:.2g} of the greatest")


def _is_quantised(model: PreTrainedModel) -> bool:
    is_ours = any(isinstance(layer, PackedLinear) for layer in model.modules())
    return is_ours or is_quantised_by_transformers(model)


def _rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """Texts of random tokens, and one of the mask's, by which some models count; one is longer than a window."""
    lengths = list(_CHECKED_LENGTHS)
    window = getattr(model.config, "sliding_window", None)
    if window is not None:
        lengths.append(min(model.config.max_position_embeddings, 2 * window + lengths[0]))
    source = torch.Generator().manual_seed(0)
    rows = []
    for length in lengths:
        ids = torch.randint(model.config.vocab_size, (length,), generator=source)
        ids[ids == tokenizer.pad_token_id] = tokenizer.mask_token_id or 0
        ids[length // 2] = ids[0] if tokenizer.mask_token_id is None else tokenizer.mask_token_id
        row = {"input_ids": ids.tolist()}
        if "token_type_ids" in tokenizer.model_input_names:
            row["token_type_ids"] = [0] * length
        rows.append(row)
    return rows
