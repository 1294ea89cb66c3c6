"""Computes what was planned: one forward of an unmodified transformers model over packed tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from transformers import PreTrainedModel

from app.runtime.generation.attention import (
    DecodeGroup,
    KeysAndValues,
    Layout,
    NotPossible,
    PrefillChunk,
    attending,
    install,
)
from app.runtime.generation.rows import Row, Slab
from app.runtime.generation.scheduler import Chunk, Plan

MAX_GAP = 4
"""Rows without a token, between two that have one, that are computed along rather than apart."""


@dataclass(frozen=True, slots=True)
class Logits:
    """Of some of a step's tokens: [tokens, vocabulary]. of: for each chunk that has any, the rows that are its own."""

    values: torch.Tensor
    of: list[tuple[Chunk, slice]]


class Runner:
    """Owned by the device thread. Raises NotPossible for models that it cannot compute."""

    def __init__(self, model: PreTrainedModel) -> None:
        signature = inspect.signature(model.forward).parameters
        for name in ("position_ids", "logits_to_keep"):
            if name not in signature:
                raise NotPossible(f"its forward takes no {name}")
        self._model = model
        self._device = model.device
        self._takes_cache = "use_cache" in signature
        self._is_spread = hasattr(model, "_hf_hook")
        with torch.inference_mode():
            self.memory: KeysAndValues = install(model, lambda: self._forward([0, 0], [0, 1], [1]))

    @property
    def vocabulary_size(self) -> int:
        """Rows of the logits: often more than the tokenizer has."""
        return int(self._model.get_output_embeddings().weight.shape[0])

    def attending(self) -> Any:
        """The context in which `run` may be called."""
        return attending(self._model)

    def change(self, created: Iterable[Slab]) -> None:
        for slab in created:
            self.memory.create(slab.slab_id, slab.num_rows, slab.capacity)

    def drop(self, dropped: Iterable[Slab]) -> None:
        for slab in dropped:
            self.memory.drop(slab.slab_id)

    def forget(self) -> None:
        """Drop all slabs."""
        self.memory.forget()

    @torch.inference_mode()
    def run(self, plan: Plan) -> Logits:
        """Logits of each chunk's last token if the next token follows from it, of all its tokens if they are asked
        for."""
        for copy in plan.copies:
            self.memory.copy(_place(copy.source), _place(copy.target), copy.num_tokens)
        return self.compute(plan.chunks)

    @torch.inference_mode()
    def compute(self, chunks: Sequence[Chunk]) -> Logits:
        """Doing it again is harmless: keys and values are written at the same places."""
        tokens: list[int] = []
        positions: list[int] = []
        kept: list[int] = []
        of: list[tuple[Chunk, slice]] = []
        decodes = sorted((chunk for chunk in chunks if chunk.num_tokens == 1), key=lambda chunk: _place(_row(chunk)))
        prefills = [chunk for chunk in chunks if chunk.num_tokens > 1]
        for chunk in (*decodes, *prefills):
            end = chunk.start + chunk.num_tokens
            wanted = _num_wanted(chunk)
            first = len(tokens) + chunk.num_tokens - wanted
            if wanted:
                of.append((chunk, slice(len(kept), len(kept) + wanted)))
                kept.extend(range(first, first + wanted))
            tokens += chunk.sequence.tokens[chunk.start : end]
            positions += range(chunk.start, end)
        self.memory.layout = self._layout(decodes, prefills)
        try:
            return Logits(self._forward(tokens, positions, kept), of)
        finally:
            self.memory.layout = None

    def _layout(self, decodes: Sequence[Chunk], prefills: Sequence[Chunk]) -> Layout:
        layout = Layout()
        place = 0
        for run in _runs(decodes):
            first, last = _row(run[0]), _row(run[-1])
            rows = torch.tensor([_row(chunk).index - first.index for chunk in run], device=self._device)
            positions = torch.tensor([chunk.start for chunk in run], device=self._device)
            longest = max(chunk.start for chunk in run) + 1
            tokens = slice(place, place + len(run))
            layout.decodes.append(
                DecodeGroup(tokens, first.slab.slab_id, first.index, last.index + 1, rows, positions, longest)
            )
            place += len(run)
        for chunk in prefills:
            row = _row(chunk)
            tokens = slice(place, place + chunk.num_tokens)
            layout.prefills.append(PrefillChunk(tokens, row.slab.slab_id, row.index, chunk.start))
            place += chunk.num_tokens
        return layout

    def _forward(self, tokens: list[int], positions: list[int], kept: list[int]) -> torch.Tensor:
        """[kept, vocabulary]. kept: places whose logits are wanted."""
        more: dict[str, Any] = {"use_cache": False} if self._takes_cache else {}
        # A model that is spread moves tensors to its first device, and takes the logits' hidden states from its last.
        wanted = kept or [0]
        output = self._model(
            input_ids=torch.tensor([tokens], device=self._device),
            position_ids=torch.tensor([positions], device=self._device),
            logits_to_keep=wanted if self._is_spread else torch.tensor(wanted, device=self._device),
            **more,
        )
        logits: torch.Tensor = output.logits[0]
        return logits if kept else logits[:0]


def _num_wanted(chunk: Chunk) -> int:
    """Logits, from the chunk's end."""
    sequence = chunk.sequence
    wants_prompt = sequence.request.sampling.num_prompt_logprobs is not None
    if wants_prompt and len(sequence.prompt_ranked) < sequence.num_prompt:
        return chunk.num_tokens
    return 1 if chunk.is_last else 0


def _row(chunk: Chunk) -> Row:
    row = chunk.sequence.place
    assert isinstance(row, Row), "A sequence without a row was to be computed. This is a bug."
    return row


def _place(row: Row) -> tuple[int, int]:
    return row.slab.slab_id, row.index


def _runs(decodes: Sequence[Chunk]) -> list[list[Chunk]]:
    """Those of one slab whose rows lie near each other."""
    runs: list[list[Chunk]] = []

    for _, chunks in groupby(decodes, key=lambda chunk: _row(chunk).slab.slab_id):
        last: int | None = None
        for chunk in chunks:
            index = _row(chunk).index
            if last is None or index - last > MAX_GAP:
                runs.append([])
            runs[-1].append(chunk)
            last = index
    return runs
