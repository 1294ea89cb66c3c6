"""Steps that only decode, recorded once for each of some numbers of sequences and replayed as CUDA graphs: the GPU does
not wait for Python between a few hundred small kernels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from app.runtime.generation.pages import PagedLayout

logger = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Sequences of a recorded step; one with fewer is filled up."""

Compute = Callable[[torch.Tensor, torch.Tensor, PagedLayout], torch.Tensor]
"""Of tokens and positions [1, sequences] and a layout: logits [sequences, vocabulary]."""


class Recorder(Protocol):
    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """What computes the same again on what the same tensors hold then. Its result is overwritten by the next call.
        Raises what `compute` raises, and whatever cannot be recorded."""
        ...


class CudaRecorder:
    """All graphs share one pool of memory: one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        with torch.cuda.device(self._device):
            stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                compute()  # libraries set themselves up at their first call, which cannot be recorded
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                result = compute()
        self._pool = graph.pool()

        def replay() -> torch.Tensor:
            with torch.cuda.device(self._device):
                graph.replay()
            return result

        return replay


@dataclass(eq=False, slots=True)
class _Recorded:
    """The tensors that a recorded step reads, and what replays it."""

    tokens: torch.Tensor
    positions: torch.Tensor
    layout: PagedLayout
    replay: Callable[[], torch.Tensor]
    spare_page: int
    spare_slot: int

    def fill(self, tokens: list[int], positions: list[int], like: PagedLayout) -> None:
        """With a step of as many sequences or fewer. What is left over writes to the spare page, and reads there."""
        num_left = self.tokens.shape[1] - len(tokens)
        num_pages = like.tables.shape[1]
        self.tokens.copy_(torch.tensor([tokens + [0] * num_left]))
        self.positions.copy_(torch.tensor([positions + [0] * num_left]))
        own = self.layout
        own.tables.fill_(self.spare_page)
        own.tables[: len(tokens), :num_pages] = like.tables
        for mine, theirs, left in ((own.slots, like.slots, self.spare_slot), (own.lengths, like.lengths, 1)):
            mine.fill_(left)
            mine[: len(tokens)] = theirs
        torch.cumsum(own.lengths, 0, dtype=torch.int32, out=own.ends[1:])


class DecodeGraphs:
    """Used on the device thread. width: pages of the longest sequence, of so many tokens each. spare_page: takes the
    keys and values of what steps are filled up with."""

    def __init__(
        self,
        compute: Compute,
        recorder: Recorder,
        *,
        width: int,
        page_tokens: int,
        spare_page: int,
        device: torch.device,
    ) -> None:
        self._compute = compute
        self._recorder = recorder
        self._width = width
        self._page_tokens = page_tokens
        self._spare_page = spare_page
        self._device = device
        self._steps: dict[int, _Recorded] = {}
        self._is_off = False

    def run(self, tokens: list[int], positions: list[int], layout: PagedLayout) -> torch.Tensor | None:
        """Logits of sequences of one new token each, overwritten by the next call; None: compute it as it is."""
        size = next((size for size in SIZES if size >= len(tokens)), None)
        if size is None or self._is_off:
            return None
        if size not in self._steps:
            try:
                self._steps[size] = self._record(size)
            except RuntimeError as error:  # of the model's code, which may wait for the device or look at its numbers
                logger.warning("steps are not recorded as CUDA graphs, and take longer: %s", error)
                self._is_off = True
                return None
        step = self._steps[size]
        step.fill(tokens, positions, layout)
        return step.replay()[: len(tokens)]

    def _record(self, size: int) -> _Recorded:
        """All of it in the spare page, until it is filled."""
        tables = torch.full((size, self._width), self._spare_page, dtype=torch.int32, device=self._device)
        counted = torch.arange(size + 1, dtype=torch.int32, device=self._device)
        layout = PagedLayout(
            slots=torch.full((size,), self._spare_page * self._page_tokens, device=self._device),
            starts=counted,
            lengths=torch.ones(size, dtype=torch.int32, device=self._device),
            ends=counted.clone(),
            tables=tables,
            longest_new=1,
            longest=self._width * self._page_tokens,
            num_decodes=size,
            decode_pages=self._width,
        )
        tokens = torch.zeros(1, size, dtype=torch.long, device=self._device)
        positions = torch.zeros_like(tokens)
        replay = self._recorder.record(lambda: self._compute(tokens, positions, layout))
        return _Recorded(tokens, positions, layout, replay, self._spare_page, self._spare_page * self._page_tokens)
