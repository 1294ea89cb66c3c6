"""Whether what distributions say of their licences is understood."""

from __future__ import annotations

from importlib.metadata import Distribution
from pathlib import Path

import pytest

from scripts.check_licences import is_allowed, problems


def installed(folder: Path, *metadata: str, name: str = "lib", files: tuple[str, ...] = ()) -> Distribution:
    place = folder / f"{name}-1.0.dist-info"
    place.mkdir()
    lines = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *metadata]
    (place / "METADATA").write_text("\n".join(lines) + "\n")
    (place / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return Distribution.at(place)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("AGPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MPL-2.0 AND (Apache-2.0 OR GPL-2.0-only)", True),
        ("(MIT AND GPL-2.0-only) OR BSD-3-Clause", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only WITH GCC-exception-3.1", False),
    ],
)
def test_expressions_are_read(expression: str, expected: bool) -> None:
    """All of an AND, one of an OR, exceptions with what they are exceptions of."""
    assert is_allowed(expression) is expected


@pytest.mark.parametrize("expression", ["", "MIT AND", "(MIT", "MIT License", "MIT)"])
def test_what_is_no_expression_is_not_taken_for_one(expression: str) -> None:
    """Free text must be looked at."""
    with pytest.raises(ValueError, match="expression"):
        is_allowed(expression)


@pytest.mark.parametrize(
    "metadata",
    [
        ["License-Expression: Apache-2.0"],
        ["License: whatever", "Classifier: License :: OSI Approved :: BSD License"],
        ["License: Apache 2.0"],
        ["License: MIT"],
    ],
)
def test_a_licence_is_found_where_it_stands(tmp_path: Path, metadata: list[str]) -> None:
    """In the metadata's field, in classifiers, in the free text of older metadata."""
    assert list(problems([installed(tmp_path, *metadata)])) == []


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        ["License: ask me"],
        ["License-Expression: AGPL-3.0-only", "Classifier: License :: OSI Approved :: MIT License"],
        [
            "Classifier: License :: OSI Approved :: MIT License",
            "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
        ],
    ],
)
def test_what_nobody_has_looked_at_is_named(tmp_path: Path, metadata: list[str]) -> None:
    """A new dependency with other terms, or with none."""
    (problem,) = problems([installed(tmp_path, *metadata)])
    assert problem.startswith("lib 1.0 says of its licence: ")


def test_libraries_within_a_wheel_are_named(tmp_path: Path) -> None:
    """Its metadata need not speak of them."""
    files = ("lib.libs/libx264-d6533a8d.so.165", "lib.libs/libopus-1.so")
    (problem,) = problems([installed(tmp_path, "License-Expression: MIT", files=files)])
    assert problem == "lib 1.0 bundles libx264, which is GPL-2.0-or-later."
