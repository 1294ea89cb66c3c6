"""Where keys and values lie: rows of slabs, each row one sequence's, contiguous. Pure bookkeeping, no torch.

A slab is a number of rows of one capacity; capacities are powers of two times the smallest. What a finished sequence
computed stays in its row until the row is needed: the prefix cache.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from app.runtime.generation.room import Copy, Placed

MAX_ROWS_OF_A_SLAB = 64
SMALLEST_CAPACITY = 64


@dataclass(eq=False, slots=True)
class Slab:
    """capacity: tokens of a row."""

    slab_id: int
    capacity: int
    num_rows: int
    rows: list[Row] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return self.capacity * self.num_rows


@dataclass(eq=False, slots=True)
class Row:
    """tokens: the first `length` of them have their keys and values here, of the adapter `kind`; a running sequence's
    own list, which grows. is_used: by a sequence that runs."""

    slab: Slab
    index: int
    tokens: Sequence[int] = ()
    length: int = 0
    kind: Hashable = None
    is_used: bool = False
    used_at: int = 0  # for the order in which rows are given up

    @property
    def capacity(self) -> int:
        return self.slab.capacity


class Rows:
    """All rows within a limit: implements `Room`.

    limit_tokens: of all slabs together. max_length: of one sequence. created, dropped: slabs, in order, until
    whoever holds the memory takes note (`take_changes`).
    """

    def __init__(self, *, limit_tokens: int, max_length: int) -> None:
        self.limit_tokens = limit_tokens
        self.longest = min(limit_tokens, max_length)
        self._capacities = _capacities(self.longest)
        self._slabs: dict[int, list[Slab]] = {capacity: [] for capacity in self._capacities}
        self._slab_tokens = 0
        self._ids = count()
        self._clock = count(1)
        self._created: list[Slab] = []
        self._dropped: list[Slab] = []

    @property
    def num_used_tokens(self) -> int:
        """Tokens of the rows that running sequences have."""
        return sum(row.capacity for row in self._all() if row.is_used)

    @property
    def num_slab_tokens(self) -> int:
        return self._slab_tokens

    def take_changes(self) -> tuple[list[Slab], list[Slab]]:
        """Slabs that are new, and slabs that are gone, since the last call."""
        changes = self._created, self._dropped
        self._created, self._dropped = [], []
        return changes

    def find_prefix(self, tokens: Sequence[int], kind: Hashable, *, at_least: int = 1) -> tuple[Row | None, int]:
        """The row that has most of what these tokens begin with, and how many; all but the last count."""
        best: Row | None = None
        length = at_least - 1
        for row in self._all():
            if row.length > length and row.kind == kind:
                common = common_length(row.tokens, tokens, min(row.length, len(tokens) - 1))
                if common > length:
                    best, length = row, common
        return best, length if best is not None else 0

    def take(self, num_tokens: int, *, spare: int = 0, keep: Row | None = None) -> Row | None:
        """A row for so many tokens, and if it can be for `spare` more. keep: not to be given up for it. None: no room
        before a sequence ends."""
        wanted = self._capacity_for(min(self.longest, num_tokens + spare))
        needed = self._capacity_for(num_tokens)
        for capacity in dict.fromkeys((wanted, needed)):
            row = self._free_row(capacity) or self._new_row(capacity, keep) or self._reclaimed(capacity, keep)
            if row is not None:
                row.tokens, row.length, row.is_used = (), 0, True
                row.used_at = next(self._clock)
                return row
        return None

    def place(self, tokens: Sequence[int], kind: Hashable, *, spare: int, may_share: bool) -> Placed | None:
        donor, length = self.find_prefix(tokens, kind) if may_share else (None, 0)
        # A row that nobody uses, and that is all shared, is taken over as it is.
        if donor is not None and not donor.is_used and donor.length == length:
            if donor.capacity >= min(self.longest, len(tokens) + spare):
                donor.is_used = True
                return self._begun(donor, tokens, kind, length)
        row = self.take(len(tokens), spare=spare, keep=donor)
        if row is None and donor is not None:
            donor, length = None, 0
            row = self.take(len(tokens), spare=spare)
        if row is None:
            return None
        return self._begun(row, tokens, kind, length, None if donor is None else Copy(donor, row, length))

    def _begun(self, row: Row, tokens: Sequence[int], kind: Hashable, length: int, copy: Copy | None = None) -> Placed:
        row.tokens, row.length, row.kind = tokens, length, kind
        return Placed(row, length, copy)

    def grow(self, place: Row, num_tokens: int, *, spare: int) -> Placed | None:
        """A sequence that outgrows its row moves to a larger one."""
        if num_tokens <= place.capacity:
            return Placed(place, place.length)
        row = self.take(num_tokens, spare=spare, keep=place)
        if row is None:
            return None
        row.tokens, row.length, row.kind = place.tokens, place.length, place.kind
        place.length = 0
        self.release(place)
        return Placed(row, row.length, Copy(place, row, row.length))

    def computed(self, place: Row, length: int) -> None:
        place.length = length

    def release(self, place: Row) -> None:
        place.is_used = False
        place.used_at = next(self._clock)

    def shared_length(self, tokens: Sequence[int], kind: Hashable) -> int:
        return self.find_prefix(tokens, kind)[1]

    def shareable(self, num_tokens: int) -> int:
        return num_tokens

    def clear(self) -> None:
        for row in self._all():
            if not row.is_used:
                row.tokens, row.length = (), 0

    def _all(self) -> Iterator[Row]:
        for slabs in self._slabs.values():
            for slab in slabs:
                yield from slab.rows

    def _capacity_for(self, num_tokens: int) -> int:
        if num_tokens > self.longest:
            raise ValueError(f"{num_tokens} tokens were let in where {self.longest} fit. This is a bug.")
        return next(capacity for capacity in self._capacities if capacity >= num_tokens)

    def _free_row(self, capacity: int) -> Row | None:
        for slab in self._slabs[capacity]:
            for row in slab.rows:
                if not row.is_used and not row.length:
                    return row
        return None

    def _new_row(self, capacity: int, keep: Row | None) -> Row | None:
        """Of a new slab. Slabs of other capacities that hold nothing but what is finished make room for it, where the
        capacity has no row yet that could be given up."""
        if not any(not row.is_used and row is not keep for slab in self._slabs[capacity] for row in slab.rows):
            self._make_room(capacity, keep)
        left = self.limit_tokens - self._slab_tokens
        num_rows = min(MAX_ROWS_OF_A_SLAB, max(1, self.limit_tokens // 2 // capacity), left // capacity)
        if num_rows < 1:
            return None
        slab = Slab(next(self._ids), capacity, num_rows)
        slab.rows = [Row(slab, index) for index in range(num_rows)]
        self._slabs[capacity].append(slab)
        self._slab_tokens += slab.num_tokens
        self._created.append(slab)
        return slab.rows[0]

    def _make_room(self, capacity: int, keep: Row | None) -> None:
        idle = [
            slab
            for slabs in self._slabs.values()
            for slab in slabs
            if not any(row.is_used or row is keep for row in slab.rows)
        ]
        idle.sort(key=lambda slab: max(row.used_at for row in slab.rows))
        for slab in idle:
            if self.limit_tokens - self._slab_tokens >= capacity:
                return
            self._slabs[slab.capacity].remove(slab)
            self._slab_tokens -= slab.num_tokens
            self._dropped.append(slab)

    def _reclaimed(self, capacity: int, keep: Row | None) -> Row | None:
        """The row of this capacity that was used least recently, of those without a sequence."""
        retired = [row for slab in self._slabs[capacity] for row in slab.rows if not row.is_used and row is not keep]
        return min(retired, key=lambda row: row.used_at, default=None)


def common_length(first: Sequence[int], second: Sequence[int], limit: int) -> int:
    """How many tokens both begin with, up to a limit."""
    limit = min(limit, len(first), len(second))
    if first[:limit] == second[:limit]:
        return limit
    low, high = 0, limit  # first[:low] == second[:low], first[:high] != second[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _capacities(longest: int) -> tuple[int, ...]:
    sizes = []
    size = SMALLEST_CAPACITY
    while size < longest:
        sizes.append(size)
        size *= 2
    return (*sizes, longest)
