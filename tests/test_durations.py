"""Durations as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from app.durations import parse_duration, parse_size, parse_size_or_share


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0), (-1, -1), ("-1", -1), (2.5, 2.5), ("20", 20), ("0", 0), ("500ms", 0.5), ("20s", 20), ("5m", 300),
        ("1h", 3600), ("30d", 2_592_000), (" 1.5 s ", 1.5),
    ],
)  # fmt: skip
def test_duration_is_in_seconds(written: Any, seconds: float) -> None:
    """Numbers are seconds and units are honoured."""
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    ["", "soon", "5 days", "-2", -0.5, "-1h", float("nan"), float("inf"), True, None, [5], {}, 10**400, "1" * 99, "٣s"],
)
def test_what_is_no_duration_is_refused_with_a_sentence(written: Any) -> None:
    """The sentence shows what was given and what may be written."""
    with pytest.raises(ValueError, match="500ms, 20s"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [(1, 1), ("512", 512), ("512MiB", 512 * 2**20), ("8GiB", 8 * 2**30), ("1.5 GB", 1_500_000_000), ("2kb", 2000)],
)
def test_size_is_in_bytes(written: Any, size: int) -> None:
    """Binary and decimal units are told apart."""
    assert parse_size(written) == size
    assert parse_size_or_share(written) == size


@pytest.mark.parametrize("written", ["", "much", 0, -1, True, None, 1.5, "8 Gib it", "80%", "-1GiB", 2**70, "9" * 40])
def test_what_is_no_size_is_refused_with_a_sentence(written: Any) -> None:
    """The sentence shows what may be written."""
    with pytest.raises(ValueError, match="512MiB, 8GiB"):
        parse_size(written)


def test_share_is_a_float_up_to_one() -> None:
    """A share of the device, told from bytes by its type."""
    assert [parse_size_or_share(written) for written in ("80%", "100%", "0.5 %")] == [0.8, 1.0, 0.005]
    assert isinstance(parse_size_or_share("100%"), float)
    for written in ("0%", "101%", "%", "-5%"):
        with pytest.raises(ValueError, match="80%"):
            parse_size_or_share(written)
