"""How many tokens of prompts a step may have."""

from __future__ import annotations

import pytest

from app.runtime.generation.pacing import HELD_UP_BY, MIN_TOKENS, Pacing


def _learnt(base_s: float, token_s: float, *sizes: int) -> Pacing:
    pacing = Pacing(1000)
    for size in sizes:
        pacing.learn(size, base_s + token_s * size)
    return pacing


def test_costs_are_learnt_from_steps_of_two_sizes() -> None:
    """What is linear is found exactly, and is not forgotten when all steps are of one size."""
    pacing = _learnt(0.02, 0.001, 100, 1, *[8] * 500)
    assert pacing.cost_s(32) == pytest.approx(0.052)
    assert pacing.cost_s(500) == pytest.approx(0.52)


def test_prompts_hold_decoding_up_by_a_multiple_of_its_own_step() -> None:
    """With 32 that decode: 1.8 times what their step costs."""
    pacing = _learnt(0.02, 0.001, 100, 1)
    assert pacing.budget(num_decoding=32, num_texts=32) == int(HELD_UP_BY * 0.052 / 0.001)


def test_those_to_come_are_reckoned_with() -> None:
    """One text decodes and 31 wait: a step may take as long as if all of them were decoding already."""
    pacing = _learnt(0.02, 0.001, 100, 1)
    few = pacing.budget(num_decoding=1, num_texts=1)
    many = pacing.budget(num_decoding=1, num_texts=32)
    assert few < many == int(((1 + HELD_UP_BY) * 0.052 - 0.021) / 0.001)


def test_nobody_who_decodes_and_nothing_known_leaves_all_room() -> None:
    """Up to what a step may have at all."""
    assert Pacing(1000).budget(num_decoding=3, num_texts=3) == 1000
    assert _learnt(0.02, 0.001, 100, 1).budget(num_decoding=0, num_texts=9) == 1000


def test_prompts_get_on_however_slow_they_are() -> None:
    """A token of a prompt may cost more than a step of those that decode."""
    assert _learnt(0.0, 1.0, 100, 1).budget(num_decoding=1, num_texts=1) == MIN_TOKENS


def test_noise_does_not_turn_the_slope_round() -> None:
    """A large step that happened to be fast does not make prompts free."""
    pacing = _learnt(0.02, 0.001, 100, 1, 50)
    pacing.learn(900, 0.0001)
    assert pacing.cost_s(900) >= 0
    assert MIN_TOKENS <= pacing.budget(num_decoding=4, num_texts=4) <= 1000
