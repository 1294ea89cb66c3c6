"""The books: what they call a loss, and that nothing is missing from them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.ledger import Answer, Ledger, Question, Timed, is_same

QUESTION = Question(name="one", kind="classify", path="/", body={})
RIGHT = {"one": [{"label": "GOOD", "score": 0.5}]}
TIMED = Timed("classify", 0.0, 1.0)


def asked(answer: Answer, **options: Any) -> Ledger:
    ledger = Ledger(RIGHT, **options)
    ledger.enter(ledger.send(QUESTION), answer, TIMED)
    ledger.close()
    return ledger


def test_right_answer_is_right_but_for_its_last_digits() -> None:
    """The order of sums is nobody's loss."""
    ledger = asked(Answer(status=200, value=[{"label": "GOOD", "score": 0.50001}]))
    assert (ledger.num_right, ledger.losses, ledger.times) == (1, [], [TIMED])


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=200, value=[{"label": "GOOD", "score": 0.51}]),
        Answer(status=200, value=[{"label": "BAD", "score": 0.5}]),
        Answer(status=200, value=[]),
        Answer(status=500, error="500 backend: the model failed"),
        Answer(status=0, error="cut (ReadError: )"),
        Answer(status=200, error="answered as chaos-7"),
    ],
)
def test_all_else_is_a_loss(answer: Answer) -> None:
    """Another answer, an error that is not documented, no answer, and somebody else's."""
    ledger = asked(answer, allowed={"classify": ("503 draining",), "embed": ("500 backend", "cut")})
    assert ledger.num_right == 0
    assert len(ledger.losses) == 1


def test_documented_errors_are_counted_by_name() -> None:
    """Of the kind of question that may have them."""
    ledger = asked(Answer(status=503, error="503 draining: shutting down"), allowed={"classify": ("503 draining",)})
    assert (ledger.losses, ledger.documented) == ([], {"503 draining": 1})


def test_what_is_not_answered_is_lost_and_what_comes_twice_too() -> None:
    """A client that has left waits for nothing."""
    ledger = Ledger(RIGHT)
    ledger.send(QUESTION)
    twice = ledger.send(QUESTION)
    for _ in range(2):
        ledger.enter(twice, Answer(status=200, value=RIGHT["one"]), TIMED)
    ledger.leave(ledger.send(QUESTION))
    ledger.close()
    assert (ledger.num_sent, ledger.num_right, ledger.num_left) == (3, 1, 1)
    assert any("was never answered" in loss for loss in ledger.losses)
    assert len(ledger.losses) == 2


def test_answer_that_nobody_knows_to_be_right_is_none() -> None:
    """A request that must fail, and is answered."""
    ledger = Ledger({})
    ledger.enter(ledger.send(QUESTION), Answer(status=200, value=1), TIMED)
    assert len(ledger.losses) == 1


def test_sameness_looks_into_everything() -> None:
    """Lists, objects, numbers, and that there is nothing more."""
    right = {"a": [1.0, {"b": "c"}], "n": 3}
    assert is_same({"n": 3, "a": [1, {"b": "c"}]}, right)
    for wrong in ({"a": [1.0, {"b": "d"}], "n": 3}, {"a": [1.0], "n": 3}, {"a": right["a"]}, {**right, "m": 1}, None):
        assert not is_same(wrong, right)
