"""The bookkeeping of blocks: who has which, what is known, what is given up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.runtime.generation.blocks import Blocks, Table

SIZE = 4


def blocks_of(num_blocks: int = 8) -> Blocks:
    return Blocks(num_blocks, SIZE, max_length=SIZE * num_blocks)


def placed(blocks: Blocks, tokens: list[int], kind: str | None = None, *, may_share: bool = True) -> tuple[Table, int]:
    found = blocks.place(tokens, kind, spare=0, may_share=may_share)
    assert found is not None
    return found.place, found.length


def computed(blocks: Blocks, tokens: list[int], kind: str | None = None) -> Table:
    table, _ = placed(blocks, tokens, kind)
    blocks.computed(table, len(tokens))
    return table


def test_full_blocks_are_shared_and_the_rest_is_not() -> None:
    """A prompt that is all known has still a token to compute."""
    blocks = blocks_of()
    first = computed(blocks, [*range(10)])
    table, length = placed(blocks, [*range(12)])
    assert length == 8 and table.blocks[:2] == first.blocks[:2] and table.blocks[2] is not first.blocks[2]
    assert blocks.shared_length([*range(8)], None) == 4
    assert blocks.shared_length([*range(9)], None) == 8
    assert blocks.num_used_tokens == 16


def test_what_is_not_computed_is_not_known() -> None:
    """Nor what is in the midst of it."""
    blocks = blocks_of()
    table, _ = placed(blocks, [*range(12)])
    assert blocks.shared_length([*range(12)], None) == 0
    blocks.computed(table, 7)
    assert blocks.shared_length([*range(12)], None) == 4


def test_equal_tokens_after_other_ones_are_other_blocks() -> None:
    """And those of another kind."""
    blocks = blocks_of()
    computed(blocks, [1, 1, 1, 1, 5, 5, 5, 5])
    assert blocks.shared_length([2, 2, 2, 2, 5, 5, 5, 5, 0], None) == 0
    assert blocks.shared_length([5, 5, 5, 5, 0], None) == 0
    assert blocks.shared_length([1, 1, 1, 1, 0], "adapter") == 0


def test_hashes_that_are_equal_do_not_deceive() -> None:
    """Tokens whose hashes are one in Python: -1 and -2."""
    assert hash((None, -1, -1, -1, -1)) == hash((None, -2, -2, -2, -2))
    blocks = blocks_of()
    computed(blocks, [-1] * 4)
    assert blocks.shared_length([-2] * 5, None) == 0


def test_blocks_are_given_up_from_the_end_and_the_longest_unused_first() -> None:
    """So that beginnings are known longest."""
    blocks = blocks_of(6)
    blocks.release(computed(blocks, [1] * 12))
    blocks.release(computed(blocks, [2] * 12))
    assert blocks.num_used_tokens == 0
    placed(blocks, [3] * 5)
    assert blocks.shared_length([1] * 12, None) == 4
    assert blocks.shared_length([2] * 13, None) == 12


def test_no_room_takes_nothing() -> None:
    """Neither for a new sequence nor for one that grows; what it would share counts as needed."""
    blocks = blocks_of(4)
    blocks.release(computed(blocks, [1] * 8))
    kept, _ = placed(blocks, [2] * 8)
    assert blocks.place([1] * 16, None, spare=0, may_share=True) is None
    assert blocks.num_used_tokens == 8
    assert blocks.grow(kept, 17 - 1, spare=0) is not None
    assert blocks.place([3], None, spare=0, may_share=True) is None


def test_more_than_fits_is_a_bug() -> None:
    """Requests are refused at the door."""
    with pytest.raises(ValueError, match="This is a bug"):
        blocks_of(2).place([1] * 9, None, spare=0, may_share=True)


def test_cleared_blocks_are_not_known_and_what_goes_on_over_them_neither() -> None:
    """Their weights changed: what a running sequence adds follows from what is not true any more."""
    blocks = blocks_of()
    table = computed(blocks, [1] * 8)
    blocks.clear()
    tokens = table.tokens
    assert isinstance(tokens, list)
    tokens += [1] * 4
    blocks.grow(table, 12, spare=0)
    blocks.computed(table, 12)
    assert blocks.shared_length([1] * 13, None) == 0


class Sharing(RuleBasedStateMachine):
    """Against a memory that remembers what was written: nobody ever reads what is not its own beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = blocks_of(6)
        self.memory: dict[tuple[int, int], Any] = {}
        self.running: list[tuple[Table, list[int], int]] = []

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=14), may_share=st.booleans())
    def begin(self, tokens: list[int], may_share: bool) -> None:
        found = self.blocks.place(tokens, None, spare=0, may_share=may_share)
        if found is not None:
            assert found.length < len(tokens) and (may_share or not found.length)
            self.running.append((found.place, tokens, found.length))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 99), most=st.integers(1, 9), token=st.integers(0, 1))
    def compute(self, which: int, most: int, token: int) -> None:
        """Some tokens, and if they are the last, one more is found."""
        which %= len(self.running)
        table, tokens, length = self.running[which]
        end = min(len(tokens), length + most)
        for place in range(length, end):
            self.memory[table.blocks[place // SIZE].index, place % SIZE] = tuple(tokens[: place + 1])
        self.blocks.computed(table, end)
        if end == len(tokens) and len(tokens) < self.blocks.longest:
            if self.blocks.grow(table, len(tokens) + 1, spare=0) is not None:
                tokens.append(token)
        self.running[which] = (table, tokens, end)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 99))
    def leave(self, which: int) -> None:
        table, _, _ = self.running.pop(which % len(self.running))
        self.blocks.release(table)

    @rule()
    def clear(self) -> None:
        self.blocks.clear()

    @invariant()
    def everybody_reads_its_own_beginning(self) -> None:
        for table, tokens, length in self.running:
            for place in range(length):
                written = self.memory[table.blocks[place // SIZE].index, place % SIZE]
                assert written == tuple(tokens[: place + 1])

    @invariant()
    def blocks_are_counted(self) -> None:
        used = {block.index for table, _, _ in self.running for block in table.blocks}
        assert self.blocks.num_used_tokens == len(used) * SIZE


Sharing.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSharing = Sharing.TestCase
