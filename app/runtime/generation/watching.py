"""What `generate` asks after every token: whether somebody still waits for each of its rows."""

from __future__ import annotations

from typing import Any

import torch
from transformers import StoppingCriteria

from app.runtime.base import Watch


class Abandoned(Exception):
    """Nobody waits for any row of this forward any more."""


class WatchedRows(StoppingCriteria):  # type: ignore[misc]  # transformers' types are not looked at
    """Ends the rows that nobody waits for. Raises Abandoned when that is all of them."""

    def __init__(self, watch: Watch, num_rows: int) -> None:
        self._watch = watch
        self._num_rows = num_rows
        self._rows = list(range(num_rows))

    def follow(self, progress: torch.Tensor) -> None:
        """Whisper's `monitor_progress`: it goes on with the sounds alone of which it has not heard all.

        progress: [rows, 2], the frame each is at and the number of its frames.
        """
        self._rows = [row for row, (at, end) in enumerate(progress.tolist()) if at < end]

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """input_ids: [rows * beams, tokens]."""
        self._watch.step()
        gone = [self._watch.is_cancelled(row) for row in range(self._num_rows)]
        if all(gone):
            raise Abandoned
        ends = torch.tensor([gone[row] for row in self._rows], device=input_ids.device)
        num_beams, rest = divmod(input_ids.shape[0], len(self._rows))
        if rest:  # Whisper tries some rows again, without saying which
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
        return ends.repeat_interleave(num_beams)
