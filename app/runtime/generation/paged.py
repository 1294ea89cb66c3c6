"""Runs steps over pages of keys and values: CUDA's way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import PreTrainedModel

from app.runtime.generation.attention import implementation, install
from app.runtime.generation.blocks import Blocks, Table
from app.runtime.generation.graphs import DecodeGraphs, Recorder
from app.runtime.generation.pages import (
    NAME,
    PAGE_TOKENS,
    KernelOf,
    PagedLayout,
    Pages,
    PromptChunk,
    attend,
    torch_kernel,
)
from app.runtime.generation.runner import Packed, Runner
from app.runtime.generation.scheduler import Chunk


class PagedRunner(Runner):
    """Over pages. kernel_of: what computes a layer's attention. recorder_of: makes what records steps that only decode,
    one for each room, for it holds memory as long as what it recorded; None: none are."""

    memory: Pages
    takes_all_at_once = True
    _graphs: DecodeGraphs | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        page_tokens: int = PAGE_TOKENS,
        kernel_of: KernelOf = torch_kernel,
        recorder_of: Callable[[torch.device], Recorder] | None = None,
    ) -> None:
        self._page_tokens = page_tokens
        self._kernel_of = kernel_of
        self._recorder_of = recorder_of
        super().__init__(model)

    def _install(self, forward: Callable[[], object]) -> Pages:
        return install(
            self._model,
            forward,
            lambda layers, device: Pages(layers, device, self._page_tokens, self._kernel_of),
        )

    def make_room(self, *, limit_tokens: int, max_length: int) -> Blocks:
        """All memory is taken at once: pages are sequences' in any order."""
        num_pages = max(1, limit_tokens // self._page_tokens)
        room = Blocks(num_pages, self._page_tokens, max_length=max_length)
        self.memory.create(num_pages + 1)  # the last takes what recorded steps are filled up with
        if self._recorder_of is not None and len(self.memory.bytes_per_token) == 1 and not self._is_spread:
            width = math.ceil(room.longest / self._page_tokens)
            self._graphs = DecodeGraphs(
                self._compute,
                self._recorder_of(self._device),
                width=width,
                page_tokens=self._page_tokens,
                spare_page=num_pages,
                device=self._device,
            )
        return room

    def attending(self) -> AbstractContextManager[None]:
        return implementation(self._model, NAME, attend)

    def forget(self) -> None:
        self.memory.forget()
        self._graphs = None

    def _logits(self, packed: Packed) -> torch.Tensor:
        layout = self._layout(packed.decodes, packed.prefills)
        if self._graphs is not None and not packed.prefills and self._may_record(packed.decodes):
            recorded = self._graphs.run(packed.tokens, packed.positions, layout)
            if recorded is not None:
                return recorded
        return self._within(layout, lambda: self._forward(packed.tokens, packed.positions, packed.kept))

    def _may_record(self, decodes: Sequence[Chunk]) -> bool:
        """Not what gathers, which a recorded step would do up to the longest text for each; nor what an adapter, which
        comes and goes, has a part in."""
        has_adapter = any(chunk.sequence.request.adapter is not None for chunk in decodes)
        return not has_adapter and not self.memory.has_gathered

    def _compute(self, tokens: torch.Tensor, positions: torch.Tensor, layout: PagedLayout) -> torch.Tensor:
        """Logits of all tokens."""
        kept = torch.arange(tokens.shape[1], device=self._device)
        return self._within(layout, lambda: self._call(tokens, positions, kept))

    def _within(self, layout: PagedLayout, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        self.memory.layout = layout
        try:
            return compute()
        finally:
            self.memory.layout = None

    def _layout(self, decodes: Sequence[Chunk], prefills: Sequence[Chunk]) -> PagedLayout:
        slots: list[int] = []
        starts, ends, lengths = [0], [0], []
        prompts: list[PromptChunk] = []
        chunks = [*decodes, *prefills]
        tables = [[block.index for block in _table(chunk).blocks] for chunk in chunks]
        for number, (chunk, table) in enumerate(zip(chunks, tables, strict=True)):
            end = chunk.start + chunk.num_tokens
            first = len(slots)
            slots += self._slots(table, chunk.start, end)
            starts.append(len(slots))
            lengths.append(end)
            ends.append(ends[-1] + end)
            if number >= len(decodes):
                prompts.append(PromptChunk(slice(first, len(slots)), number, chunk.start, end))
        pages = [math.ceil(length / self._page_tokens) for length in lengths]
        num_pages = max(pages)
        return PagedLayout(
            slots=torch.tensor(slots, device=self._device),
            starts=self._int32(starts),
            lengths=self._int32(lengths),
            ends=self._int32(ends),
            tables=self._int32([(table + [0] * num_pages)[:num_pages] for table in tables]),
            longest_new=max(chunk.num_tokens for chunk in chunks),
            longest=max(lengths),
            num_decodes=len(decodes),
            decode_pages=max(pages[: len(decodes)], default=0),
            prompts=prompts,
        )

    def _slots(self, table: Sequence[int], start: int, end: int) -> list[int]:
        slots: list[int] = []
        while start < end:
            page, place = divmod(start, self._page_tokens)
            stop = min(end, start - place + self._page_tokens)
            first = table[page] * self._page_tokens + place
            slots += range(first, first + stop - start)
            start = stop
        return slots

    def _int32(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self._device)


def _table(chunk: Chunk) -> Table:
    table = chunk.sequence.place
    assert isinstance(table, Table), "A sequence without pages was to be computed. This is a bug."
    return table
