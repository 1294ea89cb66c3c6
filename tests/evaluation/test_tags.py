"""Tags of words as entities in characters."""

from __future__ import annotations

import pytest

from app.dataset.rows import BadRow
from app.evaluation.pairs import Kind, References
from app.evaluation.tags import entities_of, places_of


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("B-PER I-PER O O B-LOC", {(0, 12, "PER"), (22, 28, "LOC")}),
        ("B-PER B-PER O O I-LOC", {(0, 3, "PER"), (4, 12, "PER")}),
        ("I-PER I-PER O O O", set()),
        ("B-PER I-LOC I-PER O O", {(0, 3, "PER")}),
        ("O O O B-LOC I-LOC", {(19, 28, "LOC")}),
    ],
)
def test_iob2_is_read_strictly(tags: str, entities: set[tuple[int, int, str]]) -> None:
    """What seqeval finds with mode="strict" and scheme=IOB2: an I that continues nothing is nothing."""
    words = ["Ada", "Lovelace", "lived", "in", "London"]
    assert set(entities_of(tags.split(), places_of(words, " "))) == entities
    assert set(entities_of(tags.split(), places_of("Ada Lovelace lived in London", " "))) == entities


def test_tags_are_read_beside_their_words() -> None:
    """As names, as a data set's numbers, or as JSON in a table; words joined as the model's parameters say."""
    expected = frozenset({(4, 10, "LOC")})
    for tags, names in ((["O", "B-LOC"], None), ([0, 1], ("O", "B-LOC")), ('["O", "B-LOC"]', None)):
        references = References(column="tags", names=names, words="tokens", delimiter="__")
        values = {"tags": tags, "tokens": ["in", "London"]}
        assert references.read(Kind.ENTITIES, values) == expected
    renamed = References(column="tags", renamed={"7": "B-LOC"}, words="tokens")
    assert renamed.read(Kind.ENTITIES, {"tags": [7], "tokens": ["Rome"]}) == {(0, 4, "LOC")}


@pytest.mark.parametrize(
    ("words", "tags", "sentence"),
    [
        ("tokens", ["O"], "tags: there are 1 tags for 2 words."),
        (None, ["O", "O"], "which column has the words"),
        ("gone", ["O", "O"], "there is no 'gone'"),
    ],
)
def test_tags_without_their_words_are_a_sentence(words: str | None, tags: list[str], sentence: str) -> None:
    """Which names the column."""
    references = References(column="tags", words=words)
    with pytest.raises(BadRow, match=sentence):
        references.read(Kind.ENTITIES, {"tags": tags, "tokens": ["in", "London"]})
