"""The command's tables: the same each time, and what the results say."""

from __future__ import annotations

import pytest

from bench.scaling.__main__ import main
from bench.scaling.report import Window, summarize, table
from bench.scaling.simulation import ABSENT, ANSWERED, FAILED, JOINED, LATE, REJECTED, RESIDENT, UNSEEN, Counts, Result

SMALL = ["--nodes", "8", "--models", "200", "--requests", "2000", "--fail", "rack", "--policies"]


def test_a_window_counts_the_requests_that_arrived_in_it() -> None:
    """Shares of all, percentiles of those that were answered or late."""
    result = Result(
        times_s=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        latencies_s=[9.0, 1.0, 2.0, 60.0, 0.0, 0.0],
        endings=bytearray([ANSWERED, ANSWERED, ANSWERED, LATE, REJECTED, FAILED]),
        findings=bytearray([ABSENT, RESIDENT, RESIDENT, JOINED, UNSEEN, UNSEEN]),
        counts=Counts(),
        moved_bytes={},
        counted_from_s=1.0,
        ended_at_s=70.0,
    )
    found = summarize(result, Window("", 1.0, 5.0))
    assert (found.num, found.resident, found.loading) == (4, 0.5, 0.25)
    assert (found.p50_s, found.num_late, found.num_refused, found.num_failed) == (2.0, 1, 1, 0)
    assert summarize(result, Window("", 5.0, 9.0)).num_failed == 1


def test_tables_are_markdown() -> None:
    """A header, a line, rows."""
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_command_prints_the_same_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each policy, and four for each around the failure."""
    printed = []
    for _ in range(2):
        main([*SMALL, "random,residency"])
        lines = capsys.readouterr().out.splitlines()
        printed.append([line for line in lines if line.startswith("|")])
    assert printed[0] == printed[1]
    assert sum(line.startswith("| residency ") for line in printed[0]) == 5


def test_what_is_unknown_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is simulated."""
    for arguments, words in ((["--policies", "best"], "there is no best"), (["--nodes", "0"], "--nodes must be more")):
        with pytest.raises(SystemExit):
            main(arguments)
        assert words in capsys.readouterr().err


def test_a_model_that_fits_no_node_is_refused() -> None:
    """It would wait for memory for ever."""
    with pytest.raises(SystemExit, match="--memory: the largest model takes .* with 0.1 GiB"):
        main([*SMALL, "random", "--memory", "0.1"])
