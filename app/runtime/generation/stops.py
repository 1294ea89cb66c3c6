"""Texts that end an answer, found across the borders of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_TOKENS_OF_A_CHARACTER = 4
"""A character of UTF-8 has at most four bytes, of which each may be a token."""


class StopTexts:
    """Looks at the ends of answers. tokenizer: only decodes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def met(self, tokens: Sequence[int], stops: Sequence[str]) -> str | None:
        """The stop text that the last of these new tokens completes, the first if it is several."""
        longest = max(map(len, stops))
        window = list(tokens[-_TOKENS_OF_A_CHARACTER * (longest + 1) :])
        before = self._decoded(window[:-1])
        after = self._decoded(window)
        start = max(0, len(before) - longest - 1)  # an incomplete character counts as one
        found = [(after.find(stop, start), stop) for stop in stops]
        return min(((place, stop) for place, stop in found if place >= 0), default=(0, None))[1]

    def _decoded(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text
