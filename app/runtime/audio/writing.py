"""What `generate` writes about sounds, row by row and token by token."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from app.runtime.base import Watch
from app.runtime.generation.watching import WatchedRows


class WrittenRows(WatchedRows):
    """Keeps what is written of each row, without the token that ends it, and tells the watch.

    tokens, logprobs: by row; the latter stay empty unless they are wanted. num_before: tokens that began each text.
    """

    def __init__(self, watch: Watch, num_rows: int, *, end_ids: Collection[int], wants_logprobs: bool) -> None:
        super().__init__(watch, num_rows)
        self.tokens: list[list[int]] = [[] for _ in range(num_rows)]
        self.logprobs: list[list[float]] = [[] for _ in range(num_rows)]
        self.num_before = 0
        self._end_ids = end_ids
        self._wants_logprobs = wants_logprobs
        self._is_over = [False] * num_rows
        self._ranks = _Ranks()

    def arguments(self) -> dict[str, Any]:
        """For `generate`."""
        given: dict[str, Any] = {"stopping_criteria": StoppingCriteriaList([self])}
        if self._wants_logprobs:
            given["logits_processor"] = LogitsProcessorList([self._ranks])
        return given

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """input_ids: [rows, tokens], the last of them new."""
        self.num_before = self.num_before or input_ids.shape[1] - 1
        new = input_ids[:, -1]
        logprobs = self._ranks.of(new) if self._wants_logprobs else []
        for row, token in enumerate(new.tolist()):
            is_end = token in self._end_ids or self._watch.is_cancelled(row)
            self._is_over[row] = self._is_over[row] or is_end
            if not self._is_over[row]:
                self.tokens[row].append(token)
                told = logprobs[row : row + 1]
                self.logprobs[row] += told
                self._watch.write(row, [token], told)
        return super().__call__(input_ids, scores, **kwargs)


class _Ranks(LogitsProcessor):  # type: ignore[misc]  # transformers' types are not looked at
    """Keeps the log-probabilities of the tokens that may come next, before temperature and top_p."""

    def __init__(self) -> None:
        self._logprobs = torch.zeros(0)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._logprobs = scores.float().log_softmax(-1)
        return scores

    def of(self, tokens: torch.Tensor) -> list[float]:
        found: list[float] = self._logprobs.gather(1, tokens[:, None])[:, 0].tolist()
        return found
