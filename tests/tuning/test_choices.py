"""Stored choices: found under the same circumstances, named and not used under others."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import msgspec
import pytest

from app.api.schemas import tuning_of
from app.catalog import ModelSpec
from app.environments.places import STATE, Environments
from app.fleet.memory import Devices
from app.tuning.choices import FILE, Choice, Choices, Machine, decided, decider, key_of
from app.tuning.measured import Measured

NOWHERE = Environments(Path("nowhere"), {})
MACHINE = Machine(
    processor="a processor",
    cores=4,
    devices=Devices(budgets={"cpu": None}),
    versions={"torch": "2.13.0"},
    environments=NOWHERE,
)
KEYS = {"backend": "torch", "dtype": "bfloat16"}


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(3 * 2**20))
    return ModelSpec(id="a", model=str(folder), tasks=("text-classification",), has_handler=False, backend="auto")


@pytest.fixture
def choices(tmp_path: Path) -> Choices:
    return Choices(tmp_path / "cache" / FILE)


def keep(choices: Choices, spec: ModelSpec, machine: Machine = MACHINE, **changes: object) -> Choice:
    choice = Choice(
        model=spec.model,
        revision=None,
        tasks=list(spec.tasks),
        device="cpu",
        keys=KEYS,
        at="2026-11-25T12:00:00+00:00",
        circumstances=machine.circumstances(spec),
    )
    choice = msgspec.structs.replace(choice, **changes)
    choices.keep(key_of(spec, "cpu"), choice)
    return choice


def test_stored_choice_becomes_the_entry(choices: Choices, spec: ModelSpec) -> None:
    """Its keys are the entry's, and the entry says whose choice that is."""
    keep(choices, spec)
    found = decided(spec, choices, MACHINE)
    assert (found.backend, found.dtype) == ("torch", "bfloat16")
    assert found.tuned is not None and found.tuned.keys == KEYS
    assert found.tuned.at.startswith("2026-11-25")


def test_without_a_choice_it_is_plain_torch(choices: Choices, spec: ModelSpec) -> None:
    """Also where the file is broken, which is a warning."""
    found = decided(spec, choices, MACHINE)
    assert (found.backend, found.dtype, found.tuned) == ("torch", "auto", None)


def test_what_torch_cannot_do_is_the_entrys_problem(choices: Choices, spec: ModelSpec) -> None:
    """A quantization that only another backend has, and nothing chosen yet."""
    found = decided(msgspec.structs.replace(spec, quantization="eighths"), choices, MACHINE)
    assert found.problem is not None and "eighths" in found.problem


def test_broken_file_is_none(tmp_path: Path, spec: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    """A warning names it, and the next choice replaces it."""
    path = tmp_path / FILE
    path.write_text("{half")
    choices = Choices(path)
    with caplog.at_level(logging.WARNING):
        assert decided(spec, choices, MACHINE).backend == "torch"
    assert str(path) in caplog.text
    keep(choices, spec)
    assert decided(spec, choices, MACHINE).tuned is not None


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (dataclasses.replace(MACHINE, versions={"torch": "2.14.0"}), "torch: 2.13.0 then, 2.14.0 now"),
        (
            dataclasses.replace(MACHINE, versions={"torch": "2.13.0", "onnxruntime": "1.32.0"}),
            "onnxruntime: none then, 1.32.0 now",
        ),
        (dataclasses.replace(MACHINE, processor="another"), "processor: a processor then, another now"),
        (dataclasses.replace(MACHINE, cores=8), "threads: 3 then, 7 now"),
    ],
)
def test_choice_under_other_circumstances_is_not_used(
    choices: Choices, spec: ModelSpec, machine: Machine, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning names what changed."""
    keep(choices, spec)
    with caplog.at_level(logging.WARNING):
        found = decided(spec, choices, machine)
    assert (found.backend, found.dtype, found.tuned) == ("torch", "auto", None)
    assert words in caplog.text
    assert "torch bfloat16" in caplog.text


def test_other_weights_are_other_circumstances(choices: Choices, spec: ModelSpec) -> None:
    """Of the same name and size; their times alone are not, as a copy has others."""
    keep(choices, spec)
    weights = Path(spec.model, "model.safetensors")
    weights.write_bytes(bytes(3 * 2**20))
    assert decided(spec, choices, MACHINE).tuned is not None
    weights.write_bytes(bytes(3 * 2**20 - 1) + b"1")
    assert decided(spec, choices, MACHINE).tuned is None


def test_choice_is_for_what_the_entry_says(choices: Choices, spec: ModelSpec) -> None:
    """Another task, type or device is another question."""
    keep(choices, spec)
    for changes in ({"tasks": ("token-classification",)}, {"dtype": "float32"}, {"device": "cuda:0"}):
        assert decided(msgspec.structs.replace(spec, **changes), choices, MACHINE).tuned is None
    assert decided(msgspec.structs.replace(spec, id="b", aliases=("c",)), choices, MACHINE).tuned is not None


@pytest.mark.parametrize("keys", [{"backend": "gone"}, {"backend": "torch", "speed": 3}, {"backend": 3}])
def test_choice_that_means_nothing_is_not_used(
    choices: Choices, spec: ModelSpec, keys: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Of another version of this server, or written by hand."""
    keep(choices, spec, keys=keys)
    with caplog.at_level(logging.WARNING):
        assert decided(spec, choices, MACHINE).tuned is None
    assert "is not used" in caplog.text


def test_environment_is_a_circumstance(choices: Choices, spec: ModelSpec, tmp_path: Path) -> None:
    """One that is gone, or was built anew, is not what was measured."""
    spec = msgspec.structs.replace(spec, env="mine")
    machine = dataclasses.replace(MACHINE, environments=Environments(tmp_path, {}))
    (tmp_path / "mine").mkdir()
    state = tmp_path / "mine" / STATE
    state.write_text("built")
    keep(choices, spec, machine)
    assert decided(spec, choices, machine).tuned is not None
    state.write_text("built anew")
    assert decided(spec, choices, machine).tuned is None
    state.unlink()
    assert decided(spec, choices, machine).tuned is None


def test_other_entries_ask_nothing_of_the_machine(choices: Choices, spec: ModelSpec) -> None:
    """Only `backend: auto` looks at it."""

    def look(environments: Environments) -> Machine:
        raise AssertionError("the machine was looked at")

    declared = msgspec.structs.replace(spec, backend="torch")
    assert decider(choices, NOWHERE, look)(declared) is declared


def test_choices_of_a_model_are_found_for_its_page(choices: Choices, spec: ModelSpec) -> None:
    """With their rows; whether one serves the model, the entry knows. Others' are not shown."""
    row = Measured(
        name="torch bfloat16", keys=KEYS, dtype="bfloat16", latency_s={"1 × short": 0.01}, inputs_per_s={},
        speedup=1.5, memory_bytes=7, load_s=[1.0, 0.5], difference=0.002, cosine_distance=None, is_allowed=True,
        problem=None,
    )  # fmt: skip
    kept = keep(choices, spec, rows=[row])
    keep(choices, msgspec.structs.replace(spec, tasks=("token-classification",)))
    keep(choices, msgspec.structs.replace(spec, model="other"), model="other")
    assert choices.of(spec) == [kept]
    shown = tuning_of(kept, decided(spec, choices, MACHINE))
    assert (shown.chosen, shown.is_used, shown.candidates[0].speedup) == ("torch bfloat16", True, 1.5)
    assert not tuning_of(kept, spec).is_used


def test_forgotten_choices_are_gone_and_others_stay(choices: Choices, spec: ModelSpec) -> None:
    """By their keys."""
    keep(choices, spec)
    other = msgspec.structs.replace(spec, tasks=("token-classification",))
    keep(choices, other)
    choices.forget([key_of(spec, "cpu")])
    assert list(choices.all()) == [key_of(other, "cpu")]


def test_choice_that_cannot_be_written_leaves_the_old_ones(choices: Choices, spec: ModelSpec, tmp_path: Path) -> None:
    """Written beside and renamed: nothing half-written is found, nor left."""
    keep(choices, spec)
    before = (tmp_path / "cache" / FILE).read_bytes()
    with pytest.raises(TypeError):
        keep(choices, spec, keys={"backend": object()})
    assert (tmp_path / "cache" / FILE).read_bytes() == before
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [FILE]
