"""Which candidate measurements speak for: pure."""

from __future__ import annotations

from math import inf

import msgspec
import pytest

from app.catalog import ModelSpec
from app.tuning.candidates import Candidate
from app.tuning.exactness import EXACT, Loss
from app.tuning.measured import Measured
from app.tuning.report import Aim, Report, Row
from app.tuning.workload import Shape

ONE, MANY = Shape(1, "short"), Shape(8, "short")
SPEC = ModelSpec(id="a", model="a", tasks=("text-classification",))


def row(name: str, one_s: float, many_s: float, *, difference: float | None = 0.0, is_eligible: bool = True) -> Row:
    backend, *dtype = name.split()
    keys = {"backend": backend, **({"dtype": dtype[0]} if dtype else {})}
    return Row(
        candidate=Candidate(keys=keys, spec=SPEC, is_eligible=is_eligible),
        rounds={ONE: [one_s], MANY: [many_s]},
        loss=None if difference is None else Loss(difference=difference),
    )


def report(*rows: Row, aim: Aim = Aim.BOTH, max_difference: float | None = None) -> Report:
    return Report(rows=rows, shapes=[ONE, MANY], aim=aim, max_difference=max_difference)


def chosen(found: Report) -> str | None:
    return None if found.choice is None else found.choice.name


def test_fastest_of_the_exact_is_chosen() -> None:
    """By the geometric mean of inputs per second over the shapes."""
    found = report(row("torch", 0.010, 0.080), row("onnx", 0.005, 0.080), row("other", 0.010, 0.030))
    assert chosen(found) == "other"
    assert found.speedup(found.rows[1]) == pytest.approx(2**0.5)


def test_all_that_was_measured_can_be_stored() -> None:
    """As it is printed in JSON; what is infinite or was not measured is nothing."""
    broken = Row(candidate=Candidate(keys={"backend": "onnx"}, spec=SPEC), problem="It has no export.")
    plain, wrong, none = report(
        row("torch", 0.010, 0.080), row("other", 0.005, 0.04, difference=inf), broken
    ).measured()
    assert (plain.latency_s, plain.speedup, plain.is_allowed) == ({"1 × short": 0.01, "8 × short": 0.08}, 1.0, True)
    assert wrong.speedup == pytest.approx(2) and (wrong.difference, wrong.is_allowed) == (None, False)
    assert (none.problem, none.latency_s, none.is_allowed) == ("It has no export.", {}, False)
    assert msgspec.json.decode(msgspec.json.encode(plain), type=Measured) == plain


def test_aim_says_which_shapes_count() -> None:
    """Latency: requests of one input; throughput: the others."""
    rows = row("torch", 0.010, 0.080), row("onnx", 0.005, 0.080), row("other", 0.010, 0.030)
    assert chosen(report(*rows, aim=Aim.LATENCY)) == "onnx"
    assert chosen(report(*rows, aim=Aim.THROUGHPUT)) == "other"


def test_nothing_becomes_less_exact_unless_the_user_says_so() -> None:
    """The fast one is named with what would allow it."""
    rows = row("torch", 0.010, 0.080), row("torch bfloat16", 0.002, 0.010, difference=0.007)
    found = report(*rows)
    assert chosen(found) == "torch"
    assert found.bound == EXACT
    assert found.faster_but_less_exact is rows[1]
    assert chosen(report(*rows, max_difference=0.01)) == "torch bfloat16"
    assert report(*rows, max_difference=0.01).faster_but_less_exact is None


def test_plain_path_sets_the_bound_where_it_is_no_float32() -> None:
    """A checkpoint in bfloat16 on a device that computes in it: another that is as near to float32 is no loss."""
    rows = row("torch", 0.010, 0.080, difference=0.008), row("onnx", 0.002, 0.010, difference=0.007)
    assert chosen(report(*rows)) == "onnx"
    assert chosen(report(*rows, max_difference=0.001)) == "torch"


def test_embeddings_are_bounded_by_their_cosines_too() -> None:
    """Small numbers may point elsewhere."""
    fast = row("onnx", 0.002, 0.010)
    fast.loss = Loss(difference=1e-5, cosine_distance=0.01)
    assert chosen(report(row("torch", 0.010, 0.080), fast)) == "torch"


def test_a_hair_is_no_reason_to_change() -> None:
    """What chance may have made stays with the plain path."""
    assert chosen(report(row("torch", 0.010, 0.080), row("onnx", 0.0099, 0.079))) == "torch"


def test_unmeasured_failed_and_ineligible_ones_are_not_chosen() -> None:
    """Not compared, not all shapes, a problem, or a reference that the entry's keys rule out."""
    crashed = row("onnx", 0.001, 0.001)
    crashed.problem = "its process was killed by SIGKILL"
    partial = row("partial", 0.001, 0.001)
    del partial.rounds[MANY]
    found = report(
        row("torch", 0.010, 0.080),
        crashed,
        partial,
        row("uncompared", 0.001, 0.001, difference=None),
        row("torch float32", 0.001, 0.001, is_eligible=False),
    )
    assert chosen(found) == "torch"


def test_without_any_there_is_no_choice() -> None:
    """Every candidate failed."""
    broken = row("torch", 0.1, 0.1)
    broken.problem = "it cannot be loaded"
    assert report(broken).choice is None


def test_medians_over_rounds_count() -> None:
    """One disturbed round of three changes nothing."""
    disturbed = row("torch", 0.010, 0.080)
    disturbed.rounds[ONE] = [0.010, 0.9, 0.011]
    assert disturbed.latency_s(ONE) == 0.011
    assert disturbed.inputs_per_s(MANY) == pytest.approx(100)
