"""Every target of `python -m tests.hostile.fuzz`, for a moment; what it finds in longer runs becomes a test."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.mutation import Edit, edited
from tests.hostile.targets import TARGETS

_NUMBER = st.integers(0, 2**32 - 1)
_EDITS = st.lists(st.builds(Edit, _NUMBER, _NUMBER, _NUMBER, _NUMBER), max_size=8)


@pytest.mark.parametrize("name", TARGETS)
def test_sound_inputs_are_read(name: str) -> None:
    """What the cases are made from gets further than the first check."""
    target = TARGETS[name]
    outcomes = {target.run(seed) for seed in target.seeds()}
    assert outcomes & {"read", "200"}, outcomes


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(index=_NUMBER, edits=_EDITS)
def test_whatever_comes_is_read_or_refused(name: str, index: int, edits: list[Edit]) -> None:
    """No input makes a reader raise anything but a documented error."""
    target = TARGETS[name]
    seeds = target.seeds()
    assert target.run(edited(seeds[index % len(seeds)], edits, target.tokens))
