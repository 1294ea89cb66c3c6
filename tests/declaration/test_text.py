"""What a YAML text may hold: as much as somebody writes, and not what a few lines of aliases would make."""

from __future__ import annotations

import pytest

from app.declaration.text import MAX_NODES, YamlError, read_yaml


def test_long_files_are_read() -> None:
    """A value of each may stand in a catalogue of very many models."""
    num_values = MAX_NODES + 50_000
    assert len(read_yaml(f"a: [{'0, ' * num_values}]").value["a"]) == num_values


def test_aliases_of_aliases_are_refused() -> None:
    """Nine of nine of nine, seven deep, in a few hundred characters."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]" for before, one in zip("abcdef", "bcdefg", strict=True)
    ]
    with pytest.raises(YamlError, match="aliases included"):
        read_yaml("\n".join(lines))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 900 + "]" * 900,
        "{a: " * 50_000,
        "- " * 20_000 + "x",
        "\n".join(" " * n + "a:" for n in range(3000)),
    ],
)
def test_deep_nesting_is_a_sentence(text: str) -> None:
    """Neither the parser's stack nor ours is used up."""
    with pytest.raises(YamlError, match="nest"):
        read_yaml(text)
