"""Bytes made wrong: sound files, bodies and frames with a few edits, which get further than noise does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

MAX_BYTES = 2**16
"""Of a mutated input; what is larger are tests of their own."""
_NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)
_SIZES = (1, 2, 4, 8)


class Edit(NamedTuple):
    """Four numbers of any size, each taken modulo what it chooses from, so that every edit fits every input."""

    kind: int
    place: int
    size: int
    value: int


def edited(seed: bytes, edits: Sequence[Edit], tokens: Sequence[bytes]) -> bytes:
    """tokens: what the format is made of, to be put where it does not belong."""
    data = bytearray(seed)
    for edit in edits:
        _KINDS[edit.kind % len(_KINDS)](data, edit, tokens)
        del data[MAX_BYTES:]
    return bytes(data)


def random_edits(random: Random) -> list[Edit]:
    """A few, and now and then many."""
    num_edits = min(1 + int(random.expovariate(0.5)), 32)
    return [Edit(*(random.getrandbits(32) for _ in range(4))) for _ in range(num_edits)]


def _flip_bit(data: bytearray, edit: Edit, tokens: Sequence[bytes]) -> None:
    if data:
        data[edit.place % len(data)] ^= 1 << edit.value % 8


def _set_byte(data: bytearray, edit: Edit, tokens: Sequence[bytes]) -> None:
    if data:
        data[edit.place % len(data)] = edit.value % 256


def _set_number(data: bytearray, edit: Edit, tokens: Sequence[bytes]) -> None:
    """Lengths, counts and sizes of binary formats: extreme ones."""
    size = _SIZES[edit.size % len(_SIZES)]
    number = _NUMBERS[edit.value % len(_NUMBERS)] % 2 ** (8 * size)
    place = edit.place % (len(data) + 1)
    data[place : place + size] = number.to_bytes(size, "little" if edit.value & 64 else "big")


def _delete(data: bytearray, edit: Edit, tokens: Sequence[bytes]) -> None:
    place = edit.place % (len(data) + 1)
    del data[place : place + 1 + edit.size % 64]


def _repeat(data: bytearray, edit: Edit, tokens: Sequence[bytes]) -> None:
    place = edit.place % (len(data) + 1)
    part = bytes(data[place : place + 1 + edit.size % 64])
    data[place:place] = part * (1 + edit.value % 128)


def _insert_token(data: bytearray, edit: Edit, tokens: Sequence[bytes]) -> None:
    place = edit.place % (len(data) + 1)
    data[place:place] = tokens[edit.value % len(tokens)] if tokens else b"\0"


def _replace_by_token(data: bytearray, edit: Edit, tokens: Sequence[bytes]) -> None:
    place = edit.place % (len(data) + 1)
    data[place : place + edit.size % 16] = tokens[edit.value % len(tokens)] if tokens else b"\xff"


def _cut(data: bytearray, edit: Edit, tokens: Sequence[bytes]) -> None:
    del data[edit.place % (len(data) + 1) :]


def _move(data: bytearray, edit: Edit, tokens: Sequence[bytes]) -> None:
    place, target = edit.place % (len(data) + 1), edit.value % (len(data) + 1)
    part = data[place : place + 1 + edit.size % 64]
    del data[place : place + len(part)]
    data[target:target] = part


_KINDS: tuple[Callable[[bytearray, Edit, Sequence[bytes]], None], ...] = (
    _flip_bit,
    _set_byte,
    _set_number,
    _delete,
    _repeat,
    _insert_token,
    _replace_by_token,
    _cut,
    _move,
)
