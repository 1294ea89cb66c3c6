"""Rows of different lengths -> the tensors of one forward, such that padding changes no answer."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.runtime.tokenizing import Row, position_offset

ALWAYS_INPUTS = frozenset({"input_ids", "attention_mask"})


class Collator:
    """Pads on the tokenizer's side and hands the model what its forward names."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._device = model.device
        self._names = frozenset(inspect.signature(model.forward).parameters)
        self._is_left = tokenizer.padding_side == "left"
        self._position_offset = position_offset(model)
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._pads = {"input_ids": pad_id, "token_type_ids": tokenizer.pad_token_type_id}

    def is_model_input(self, name: str) -> bool:
        return name in ALWAYS_INPUTS or name in self._names

    def collate(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Tensors [rows, width] on the model's device, an attention mask always among them."""
        lengths = [len(row["input_ids"]) for row in rows]
        width = max(lengths)
        inputs = {
            name: torch.tensor([self._padded(row[name], width, self._pads.get(name, 0)) for row in rows])
            for name in rows[0]
            if self.is_model_input(name)
        }
        if "attention_mask" not in inputs:
            inputs["attention_mask"] = torch.tensor([self._padded([1] * length, width, 0) for length in lengths])
        if self._is_left and "position_ids" in self._names:
            # Without them the model would count the padding as well. With or without padding: compiled code is for
            # one set of inputs.
            positions = inputs["attention_mask"].cumsum(1) - 1
            inputs["position_ids"] = positions.clamp(min=0) + self._position_offset
        if "use_cache" in self._names:
            return {**self._on_device(inputs), "use_cache": False}
        return self._on_device(inputs)

    def trim(self, output: torch.Tensor, length: int) -> torch.Tensor:
        """One row's output [width, ...] without its padding: [length, ...]."""
        return output[output.shape[0] - length :] if self._is_left else output[:length]

    def _padded(self, values: list[int], width: int, pad: int) -> list[int]:
        missing = width - len(values)
        if missing == 0:
            return values
        return [pad] * missing + values if self._is_left else values + [pad] * missing

    def _on_device(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self._device.type == "cpu":
            return inputs
        return {name: value.to(self._device, non_blocking=True) for name, value in inputs.items()}
