"""Computes what was planned: one forward of an unmodified transformers model over packed tokens."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from transformers import PreTrainedModel

from app.runtime.adapters import Adapters
from app.runtime.generation.attention import (
    NAME,
    DecodeGroup,
    KeysAndValues,
    Layout,
    Memory,
    NotPossible,
    PrefillChunk,
    attend,
    attend_to_nothing,
    implementation,
    install,
)
from app.runtime.generation.room import Copy, Room
from app.runtime.generation.rows import Row, Rows
from app.runtime.generation.scheduler import Chunk, Plan

MAX_GAP = 4
"""Rows without a token, between two that have one, that are computed along rather than apart."""


@dataclass(frozen=True, slots=True)
class Logits:
    """Of some of a step's tokens: [tokens, vocabulary]. of: for each chunk that has any, the rows that are its own."""

    values: torch.Tensor
    of: list[tuple[Chunk, slice]]


@dataclass(frozen=True, slots=True)
class Packed:
    """The tokens of a step as one row: those of `decodes`, then those of `prefills`. kept: places whose logits are
    wanted."""

    tokens: list[int]
    positions: list[int]
    kept: list[int]
    decodes: Sequence[Chunk]
    prefills: Sequence[Chunk]


class Runner(ABC):
    """Owned by the device thread. Raises NotPossible for models that it cannot compute.

    What lies where, and how the model attends to it, is the affair of those made of it: `RowsRunner`, and `PagedRunner`
    in `paged.py`.
    """

    memory: Memory
    takes_all_at_once = False  # the memory of all its room, when it makes it

    def __init__(self, model: PreTrainedModel) -> None:
        signature = inspect.signature(model.forward).parameters
        for name in ("position_ids", "logits_to_keep"):
            if name not in signature:
                raise NotPossible(f"its forward takes no {name}")
        self._model = model
        self._device = model.device
        self._takes_cache = "use_cache" in signature
        self._adapters: Adapters | None = None
        self._is_spread = hasattr(model, "_hf_hook")
        with torch.inference_mode():
            self.memory = self._install(lambda: self._forward([0, 0], [0, 1], [1]))

    def take_adapters(self, adapters: Adapters | None) -> None:
        """Sequences may have these from now on."""
        if adapters is not None:
            with torch.inference_mode(), implementation(self._model, f"{NAME}_nothing", attend_to_nothing):
                adapters.learn_mixing(lambda count: self._forward([0] * count, list(range(count)), [count - 1]))
        self._adapters = adapters

    def parts_of(self, chunks: Sequence[Chunk]) -> list[list[Chunk]]:
        """What cannot share a forward: chunks of adapters that change more than can be added to some tokens."""
        if self._adapters is None:
            return [list(chunks)]
        parts: dict[Any, list[Chunk]] = {}
        for chunk in chunks:
            adapter = chunk.sequence.request.adapter
            parts.setdefault(None if self._adapters.can_mix(adapter) else adapter, []).append(chunk)
        return list(parts.values())

    def _adapted(self, chunks: Sequence[Chunk]) -> AbstractContextManager[None]:
        if self._adapters is None:
            return nullcontext()
        return self._adapters.packed([(chunk.sequence.request.adapter, chunk.num_tokens) for chunk in chunks])

    @property
    def vocabulary_size(self) -> int:
        """Rows of the logits: often more than the tokenizer has."""
        return int(self._model.get_output_embeddings().weight.shape[0])

    @abstractmethod
    def _install(self, forward: Callable[[], object]) -> Memory:
        """Its memory, which the model's attention finds from now on."""

    @abstractmethod
    def make_room(self, *, limit_tokens: int, max_length: int) -> Room:
        """In place of any that was made before. limit_tokens: of keys and values; max_length: of one sequence."""

    @abstractmethod
    def attending(self) -> AbstractContextManager[None]:
        """The context in which `run` may be called."""

    def step(self) -> AbstractContextManager[None]:
        """The context in which a plan may be run: before it, memory is made that the plan counts on, and after it what
        the plan gave up is given back."""
        return nullcontext()

    @abstractmethod
    def forget(self) -> None:
        """Give back all memory."""

    @torch.inference_mode()
    def run(self, plan: Plan) -> Logits:
        """Logits of each chunk's last token if the next token follows from it, of all its tokens if they are asked
        for."""
        self.copy(plan)
        return self.compute(plan.chunks)

    @torch.inference_mode()
    def copy(self, plan: Plan) -> None:
        """The keys and values that its chunks begin with."""
        for copy in plan.copies:
            self._copy(copy)

    def _copy(self, copy: Copy) -> None:
        raise RuntimeError("A runner that copies nothing was to copy. This is a bug.")

    @torch.inference_mode()
    def compute(self, chunks: Sequence[Chunk]) -> Logits:
        """Doing it again is harmless: keys and values are written at the same places."""
        tokens: list[int] = []
        positions: list[int] = []
        kept: list[int] = []
        of: list[tuple[Chunk, slice]] = []
        decodes = self._ordered([chunk for chunk in chunks if chunk.num_tokens == 1])
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
        with self._adapted([*decodes, *prefills]):
            return Logits(self._logits(Packed(tokens, positions, kept, decodes, prefills)), of)

    def _ordered(self, decodes: list[Chunk]) -> list[Chunk]:
        """As they lie best beside each other."""
        return decodes

    @abstractmethod
    def _logits(self, packed: Packed) -> torch.Tensor:
        """[kept, vocabulary]."""

    def _forward(self, tokens: list[int], positions: list[int], kept: list[int]) -> torch.Tensor:
        # A model that is spread moves tensors to its first device, and takes the logits' hidden states from its last.
        wanted = kept or [0]
        logits = self._call(
            torch.tensor([tokens], device=self._device),
            torch.tensor([positions], device=self._device),
            wanted if self._is_spread else torch.tensor(wanted, device=self._device),
        )
        return logits if kept else logits[:0]

    def _call(self, tokens: torch.Tensor, positions: torch.Tensor, kept: torch.Tensor | list[int]) -> torch.Tensor:
        more: dict[str, Any] = {"use_cache": False} if self._takes_cache else {}
        output = self._model(input_ids=tokens, position_ids=positions, logits_to_keep=kept, **more)
        logits: torch.Tensor = output.logits[0]
        return logits


class RowsRunner(Runner):
    """Over rows of slabs: for CPUs."""

    memory: KeysAndValues
    _rows: Rows | None = None

    def _install(self, forward: Callable[[], object]) -> KeysAndValues:
        return install(self._model, forward, KeysAndValues)

    def make_room(self, *, limit_tokens: int, max_length: int) -> Rows:
        self.memory.forget()
        self._rows = Rows(limit_tokens=limit_tokens, max_length=max_length)
        return self._rows

    def attending(self) -> AbstractContextManager[None]:
        return implementation(self._model, NAME, attend)

    @contextmanager
    def step(self) -> Iterator[None]:
        assert self._rows is not None, "A runner without room was to compute. This is a bug."
        created, dropped = self._rows.take_changes()
        for slab in created:
            self.memory.create(slab.slab_id, slab.num_rows, slab.capacity)
        try:
            yield
        finally:
            for slab in dropped:
                self.memory.drop(slab.slab_id)

    def forget(self) -> None:
        self.memory.forget()

    def _copy(self, copy: Copy) -> None:
        self.memory.copy(_place(copy.source), _place(copy.target), copy.num_tokens)

    def _ordered(self, decodes: list[Chunk]) -> list[Chunk]:
        return sorted(decodes, key=lambda chunk: _place(_row(chunk)))

    def _logits(self, packed: Packed) -> torch.Tensor:
        self.memory.layout = self._layout(packed.decodes, packed.prefills)
        try:
            return self._forward(packed.tokens, packed.positions, packed.kept)
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
