"""Candidates are variations of the entry, made from the table of backends."""

from __future__ import annotations

import msgspec
import pytest

from app.catalog import AdapterSpec, ModelSpec
from app.declaration.backends import TORCH, Backend
from app.errors import NotAvailable
from app.tuning.candidates import candidates, check_tunable, name_of, plain, reference

SPEC = ModelSpec(id="a", model="acme/a", tasks=("text-classification",), has_handler=False, backend="auto")
FAST = Backend(
    name="fast",
    what="a test's own",
    quantizations={"int8": "eight bits"},
    tasks=frozenset({"text-classification"}),
    candidates=({}, {"quantization": "int8"}),
)
TABLE = {"torch": TORCH, "fast": FAST}


def spec(**changes: object) -> ModelSpec:
    return msgspec.structs.replace(SPEC, **changes)


def checked(one: ModelSpec) -> ModelSpec:
    """As the catalogue does it with its own table."""
    row = TABLE[one.backend]
    can_do = one.quantization in (None, *row.quantizations) and (row.tasks is None or set(one.tasks) <= row.tasks)
    return one if can_do else msgspec.structs.replace(one, problem="it cannot")


def names(one: ModelSpec) -> list[str]:
    return [candidate.name for candidate in candidates(one, TABLE, checked)]


def test_plain_path_is_first_and_the_reference_second() -> None:
    """Both are what the rest is compared with."""
    found = names(SPEC)
    assert found[:2] == ["torch", "torch float32"]
    assert found[-2:] == ["fast", "fast int8"]


def test_candidate_is_what_its_worker_loads() -> None:
    """The spec holds the keys; nothing else of the entry changes."""
    found = {candidate.name: candidate for candidate in candidates(SPEC, TABLE, checked)}
    int8 = found["fast int8"].spec
    assert (int8.backend, int8.quantization, int8.dtype) == ("fast", "int8", "auto")
    assert int8.model == SPEC.model
    assert plain(SPEC).spec.backend == "torch"


def test_own_keys_bound_the_candidates() -> None:
    """What the entry says is not varied: a declared type leaves no other, a quantization only who has it."""
    assert names(spec(dtype="bfloat16"))[:1] == ["torch"]
    assert not {"torch float16"} & set(names(spec(dtype="bfloat16")))
    assert not reference(spec(dtype="bfloat16"), TABLE).is_eligible
    quantized = spec(quantization="int8")
    assert {candidate.name for candidate in candidates(quantized, TABLE, checked) if candidate.is_eligible} >= {
        "fast",
        "fast int8",
    }
    assert reference(quantized, TABLE).spec.quantization is None
    assert not reference(quantized, TABLE).is_eligible


def test_only_backends_that_can_do_the_task_are_tried() -> None:
    """A row says which tasks it does; adapters are torch's alone."""
    assert not any("fast" in name for name in names(spec(tasks=("token-classification",))))
    adapters = (AdapterSpec(id="x", path="acme/x"),)
    assert not any("fast" in name for name in names(spec(adapters=adapters)))


def test_the_catalogue_says_what_can_be() -> None:
    """By the table that the server has: torch with a quantization that it lacks is no candidate."""
    assert "torch" in [candidate.name for candidate in candidates(SPEC)]
    assert [candidate.name for candidate in candidates(spec(quantization="eighths"))] == ["torch float32"]


def test_reference_is_plain_float32() -> None:
    """Whatever the entry says of it otherwise."""
    exact = reference(spec(dtype="float16", quantization="int8"), TABLE).spec
    assert (exact.backend, exact.dtype, exact.quantization) == ("torch", "float32", None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": ("text-generation",)}, "tasks with one forward"),
        ({"tasks": ("automatic-speech-recognition",)}, "tasks with one forward"),
        ({"has_handler": True}, "handler.py"),
        ({"device_map": "auto"}, "several devices"),
        ({"backend": "fast"}, "backend: fast"),
    ],
)
def test_what_cannot_be_tuned_is_refused_by_name(changes: dict[str, object], words: str) -> None:
    """Before anything is started."""
    with pytest.raises(NotAvailable, match=words):
        check_tunable(spec(**changes))


def test_name_is_what_differs() -> None:
    """A key that is only on or off is shown by its name."""
    assert name_of({"backend": "torch", "compile": True, "dtype": "bfloat16"}) == "torch compile bfloat16"
