"""Where keys and values lie on CUDA: blocks of some tokens, which sequences may share. Pure bookkeeping, no torch.

A block that is full and computed is known by what it holds: the tokens in it, and the known block before it. What
begins alike shares its full blocks, without a copy. Blocks without a sequence keep what they hold until somebody needs
them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count

from app.runtime.generation.room import Placed

_Content = tuple[Hashable, ...]
"""The number of the content before it (or the kind, for a first block), and the tokens: equal contents are equal keys
of a dict, so a hash that two have in common is told apart by the tokens themselves."""


@dataclass(eq=False, slots=True)
class Block:
    """index: of its place in memory. content, number: of what it holds, if it is known; no two known contents have, or
    ever had, the same number."""

    index: int
    num_users: int = 0
    content: _Content | None = None
    number: int = 0


@dataclass(eq=False, slots=True)
class Table:
    """The blocks of one sequence, in order. tokens: its own list, which grows. num_known: of the blocks, from the first
    on, how many are full and computed."""

    tokens: Sequence[int]
    kind: Hashable
    blocks: list[Block]
    num_known: int = 0
    parent: Hashable = None  # the last known block's number


@dataclass(slots=True)
class _Found:
    blocks: list[Block] = field(default_factory=list)
    parent: Hashable = None


class Blocks:
    """Implements `Room`. size: tokens of a block. max_length: of one sequence."""

    def __init__(self, num_blocks: int, size: int, *, max_length: int) -> None:
        self.size = size
        self.limit_tokens = num_blocks * size
        self.longest = min(self.limit_tokens, max_length)
        # Those without a sequence: the ones to be given up first come first.
        self._free: dict[Block, None] = {Block(index): None for index in range(num_blocks)}
        self._num_blocks = num_blocks
        self._known: dict[_Content, Block] = {}
        self._numbers = count(1)

    @property
    def num_used_tokens(self) -> int:
        return (self._num_blocks - len(self._free)) * self.size

    def place(self, tokens: Sequence[int], kind: Hashable, *, spare: int, may_share: bool) -> Placed | None:
        """More room is had block by block, so none is set aside."""
        found = self._find(tokens, kind) if may_share else _Found(parent=_root(kind))
        num_new = self._num_for(len(tokens)) - len(found.blocks)
        num_idle = sum(1 for block in found.blocks if not block.num_users)
        if num_new > len(self._free) - num_idle:
            return None
        for block in found.blocks:
            self._use(block)
        new = [self._new() for _ in range(num_new)]
        table = Table(tokens, kind, found.blocks + new, len(found.blocks), found.parent)
        return Placed(table, len(found.blocks) * self.size)

    def grow(self, place: Table, num_tokens: int, *, spare: int) -> Placed | None:
        missing = self._num_for(num_tokens) - len(place.blocks)
        if missing > len(self._free):
            return None
        place.blocks += [self._new() for _ in range(missing)]
        return Placed(place, place.num_known * self.size)

    def computed(self, place: Table, length: int) -> None:
        while (place.num_known + 1) * self.size <= length:
            first = place.num_known * self.size
            content = (place.parent, *place.tokens[first : first + self.size])
            block = self._known.get(content)
            if block is None:  # else another sequence computed the same: what follows is known by that one's number
                block = place.blocks[place.num_known]
                block.content, block.number = content, next(self._numbers)
                self._known[content] = block
            place.parent = block.number
            place.num_known += 1

    def release(self, place: Table) -> None:
        """The last of its blocks are given up first: they are of no use without those before them."""
        for block in reversed(place.blocks):
            block.num_users -= 1
            if not block.num_users:
                self._free[block] = None
        place.blocks = []

    def shared_length(self, tokens: Sequence[int], kind: Hashable) -> int:
        return len(self._find(tokens, kind).blocks) * self.size

    def shareable(self, num_tokens: int) -> int:
        return num_tokens // self.size * self.size

    def clear(self) -> None:
        for block in self._known.values():
            block.content = None
        self._known.clear()

    def _find(self, tokens: Sequence[int], kind: Hashable) -> _Found:
        """The known blocks that the tokens begin with; the last token is left, for there must be one to compute."""
        found = _Found(parent=_root(kind))
        for first in range(0, len(tokens) - self.size, self.size):
            block = self._known.get((found.parent, *tokens[first : first + self.size]))
            if block is None:
                break
            found.blocks.append(block)
            found.parent = block.number
        return found

    def _num_for(self, num_tokens: int) -> int:
        if num_tokens > self.longest:
            raise ValueError(f"{num_tokens} tokens were let in where {self.longest} fit. This is a bug.")
        return -(-num_tokens // self.size)

    def _use(self, block: Block) -> None:
        self._free.pop(block, None)
        block.num_users += 1

    def _new(self) -> Block:
        """The free block that is longest of no use."""
        block = next(iter(self._free))
        self._use(block)
        if block.content is not None:
            del self._known[block.content]
            block.content = None
        return block


def _root(kind: Hashable) -> Hashable:
    """Stands in the place of the number of the block before a first one; numbers begin at 1."""
    return (kind,)
