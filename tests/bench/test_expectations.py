"""Each expectation is met, missed or not measured by what the results say, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.expectations import Verdict, judge
from tests.bench.results import encoders, results, server


def verdict(parts: Mapping[str, Any], words: str) -> Verdict:
    (found,) = (one for one in judge(parts) if words in one.expected)
    return found


def test_expectations_are_judged_by_ratios_of_one_run() -> None:
    """99 against 60 is 1.65 times; 99 of a ceiling of 100 are 0.99."""
    parts = results()["parts"]
    infinity = verdict(parts, "1.5 × infinity")
    assert infinity.is_met
    assert infinity.found == "1.65 (32 concurrent), 1.65 (128 concurrent)"
    assert verdict(parts, "short texts, all-MiniLM-L6-v2").word == "met"
    assert verdict(parts, "mixed texts, BERT-base-sized").word == "missed"
    assert verdict(parts, "2 × LitServe").word == "met"


def test_one_figure_that_falls_short_misses_the_expectation() -> None:
    """Every circumstance has to hold."""
    ours, rival = server("pipeserve", 99.0), server("infinity", 60.0)
    (slow,) = (cell for cell in ours["cells"] if (cell["texts"], cell["concurrency"]) == ("mixed", 128))
    slow["texts_per_s"] = 60.0
    found = verdict({"encoders-minilm": encoders(ours, rival)}, "1.5 × infinity")
    assert found.word == "missed"
    assert "1.00 (128 concurrent)" in found.found


def test_other_lines_follow_their_parts() -> None:
    """Added latency, CPU, tail and failures."""
    parts = results()["parts"]
    assert verdict(parts, "bare pipeline call").found == "0.50 ms (all-MiniLM-L6-v2)"
    assert verdict(parts, "CPU of the API process").word == "met"
    assert verdict(parts, "p99 at half").found == "2.00 × (short texts)"
    assert verdict(parts, "no failure").word == "met"
    parts["many-models"]["rows"][0]["num_failed"] = 1
    assert verdict(parts, "no failure").word == "missed"


def test_nothing_is_claimed_where_nothing_was_measured() -> None:
    """Neither met nor missed."""
    assert {one.word for one in judge({})} == {"not measured"}
    parts = {"encoders-minilm": encoders(server("pipeserve", 99.0))}
    assert verdict(parts, "1.1 × infinity").word == "not measured"
    assert verdict(parts, "with the tuner's choice").word == "not measured"
