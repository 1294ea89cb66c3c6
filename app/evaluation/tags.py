"""Tags of words (IOB2: `B-PER`, `I-PER`, `O`) -> entities in characters, as the models answer them.

Read strictly: an entity begins with B, and an I that continues none is no entity. This is what seqeval counts with
`mode="strict", scheme=IOB2`; that package itself has had no release since 2020, and its counting cannot be resampled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from app.dataset.rows import BadRow

_OUTSIDE = "O"


def places_of(words: str | Sequence[str], delimiter: str) -> list[tuple[int, int]]:
    """Begin and end of each word: of a text, what white space parts; of a list, joined by the delimiter."""
    if isinstance(words, str):
        return [found.span() for found in re.finditer(r"\S+", words)]
    places, begin = [], 0
    for word in words:
        places.append((begin, begin + len(word)))
        begin += len(word) + len(delimiter)
    return places


def entities_of(tags: Sequence[str], places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, str]]:
    """Raises BadRow."""
    if len(tags) != len(places):
        raise BadRow(f"there are {len(tags)} tags for {len(places)} words.")
    for first, last, label in _runs(tags):
        yield places[first][0], places[last][1], label


def _runs(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    first, label = None, ""
    for number, tag in enumerate([*tags, _OUTSIDE]):
        prefix, _, kind = tag.partition("-")
        if first is not None and (prefix, kind) != ("I", label):
            yield first, number - 1, label
            first = None
        if prefix == "B":
            first, label = number, kind
