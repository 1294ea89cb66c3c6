"""docs/benchmarks.md says what its results say."""

from __future__ import annotations

import re
from pathlib import Path

from bench.curves import draw
from bench.page import PAGE, RESULTS, page, read, table
from tests.bench.results import results


def test_page_is_made_of_its_results() -> None:
    """`python -m bench.page` makes it; nobody writes figures into it by hand."""
    assert PAGE.read_text() == page(read())


def test_pictures_of_the_page_are_beside_it() -> None:
    """Each curve that it shows."""
    for picture in re.findall(r"\]\((benchmarks/\w+\.png)\)", PAGE.read_text()):
        assert (RESULTS.parent.parent / picture).is_file(), picture


def test_page_names_who_could_not_run_and_why() -> None:
    """A rival is never silently missing."""
    made = page(results())
    assert "| MLServer | it could not be installed: ERROR: no / matching distribution |" in made
    assert "could not run: it ended with 1" in made
    assert "It could not run: No such command" in made
    assert "| a: 60.0 texts/s; b: it ended |" in made


def test_page_compares_each_server_with_ours_and_the_ceiling() -> None:
    """99 texts/s against 60: 1.65 times; 60 of 100: 0.60."""
    made = page(results())
    assert "| infinity | 32 | 60.0 | 0.60 | 1.65 × | 10.0 | 20.0 | 0 | 0.05 | 1.20 |" in made
    assert "### Mixed texts, 32 in a request" in made


def test_page_without_results_claims_nothing() -> None:
    """All that is left is the method, and expectations that were not measured."""
    made = page({"parts": {}})
    assert "not measured" in made
    assert "| met |" not in made
    assert "texts/s |" not in made


def test_every_row_of_a_table_has_its_columns() -> None:
    """Whatever the cells hold."""
    for block in re.findall(r"(?:^\|.*\n)+", page(results()), re.MULTILINE):
        widths = {line.count("|") for line in block.splitlines()}
        assert len(widths) == 1, block
    assert list(table(("a", "b"), [("1|2", "3")])) == ["| a | b |", "|---|---|", "| 1/2 | 3 |"]


def test_curves_are_pictures(tmp_path: Path) -> None:
    """One file for each thing that grew."""
    files = draw(results()["parts"]["growth"]["curves"], tmp_path)
    assert [file.name for file in files] == ["concurrency.png", "replicas.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
