"""Where keys and values of sequences lie, as the scheduler sees it: rows (`rows.py`) or pages (`blocks.py`). Pure
bookkeeping, no torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Copy:
    """Keys and values of the first so many tokens, from place to place, before anything is computed."""

    source: Any
    target: Any
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Placed:
    """place: a sequence's own, until it is released. length: tokens whose keys and values are there, by the copy if
    there is one."""

    place: Any
    length: int
    copy: Copy | None = None


class Room(Protocol):
    """Owned by the device thread. limit_tokens: of all sequences together. longest: of one."""

    limit_tokens: int
    longest: int

    @property
    def num_used_tokens(self) -> int:
        """Tokens that there is room for in what running sequences have."""
        ...

    def place(self, tokens: Sequence[int], kind: Hashable, *, spare: int, may_share: bool) -> Placed | None:
        """A place for these tokens, and if it can be for `spare` more; may_share: with what is known of their
        beginning. The tokens are the sequence's own list, which grows. None: no room before a sequence ends."""
        ...

    def grow(self, place: Any, num_tokens: int, *, spare: int) -> Placed | None:
        """Room for so many tokens in all; None: none before a sequence ends."""
        ...

    def computed(self, place: Any, length: int) -> None:
        """So many of its tokens have their keys and values there."""
        ...

    def release(self, place: Any) -> None:
        """Its sequence is gone; what it computed stays as long as nobody needs the memory."""
        ...

    def shared_length(self, tokens: Sequence[int], kind: Hashable) -> int:
        """Of so many tokens at their beginning keys and values are there."""
        ...

    def shareable(self, num_tokens: int) -> int:
        """How many of so many equal tokens two sequences could share."""
        ...

    def clear(self) -> None:
        """Forget what is kept of sequences that are gone."""
        ...
