"""Environments are complete or not there; what pip says comes through."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from app.environments.building import (
    EnvironmentProblem,
    create,
    is_built_from,
    names_in,
    probe,
    remove,
    size_of,
    state_of,
)
from app.environments.places import python_of
from tests.environments.wheels import make_wheel, requirements_of

HELLO = "def hello():\n    print('hello')\n"
BROKEN = "raise RuntimeError('operator torchvision::nms does not exist')\n"


def build(folder: Path, requirements: Path, *modules: str) -> list[str]:
    """What it said."""
    said: list[str] = []
    create("tiny", folder, requirements, modules, python=sys.executable, say=said.append)
    return said


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_an_environment_is_built_checked_and_moved(tmp_path: Path) -> None:
    """It holds what was asked for, its scripts know its place, and what would break transformers was taken out."""
    breaking = ("torchvision", "torchaudio", "torchcodec")
    wheels = [
        make_wheel(tmp_path, "tiny", HELLO),
        *(make_wheel(tmp_path, name, BROKEN, version="0.1") for name in breaking),
    ]
    requirements = requirements_of(tmp_path, *wheels)
    said = build(tmp_path / "built", requirements, "tiny")
    environment = tmp_path / "built" / "tiny"
    assert left_in(tmp_path / "built") == ["tiny"]
    state = state_of(environment)
    assert state is not None and is_built_from(state, requirements)
    found = probe(python_of(environment), tmp_path / "built", ["tiny", "msgspec"])
    assert found.versions["tiny"] == "1.0"
    assert not found.versions.keys() & set(breaking)
    for name in breaking:
        assert any(f"removing {name}" in line and "nms does not exist" in line for line in said)
    assert list(found.failed) == ["msgspec"]  # the server's own libraries are not there
    done = subprocess.run([environment / "bin" / "tiny-hello"], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"
    size = size_of(environment)
    assert remove("tiny", tmp_path / "built") == size > 0
    assert left_in(tmp_path / "built") == []
    with pytest.raises(EnvironmentProblem, match="there is no environment"):
        remove("tiny", tmp_path / "built")


def test_what_cannot_be_removed_is_a_sentence(tmp_path: Path) -> None:
    """A link to where somebody keeps it."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "tiny").symlink_to(tmp_path / "kept")
    with pytest.raises(EnvironmentProblem, match="tiny cannot be removed: "):
        remove("tiny", tmp_path)
    assert (tmp_path / "kept").is_dir()


def test_what_cannot_be_imported_is_not_kept(tmp_path: Path) -> None:
    """The one that was there stays as it was."""
    place = tmp_path / "built" / "tiny"
    place.mkdir(parents=True)
    (place / "mine").write_text("kept")
    requirements = requirements_of(tmp_path, make_wheel(tmp_path, "tiny", "import nothing_of_the_kind\n"))
    with pytest.raises(EnvironmentProblem, match="tiny: ModuleNotFoundError: No module named 'nothing_of_the_kind'"):
        build(tmp_path / "built", requirements, "tiny")
    assert left_in(tmp_path / "built") == ["tiny"]
    assert (place / "mine").read_text() == "kept"


def test_pips_failure_is_told(tmp_path: Path) -> None:
    """Its last lines, and what to do without an index; nothing is left."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("--no-index\npipeserve-no-such-distribution==1.0\n")
    with pytest.raises(EnvironmentProblem) as caught:
        build(tmp_path / "built", requirements)
    assert "No matching distribution found for pipeserve-no-such-distribution" in str(caught.value)
    assert "PIP_FIND_LINKS" in str(caught.value)
    assert left_in(tmp_path / "built") == []


def test_where_torch_for_cpus_is_is_told(tmp_path: Path) -> None:
    """It is not in the index that pip asks by itself."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("--no-index\ntorch==0.0.1+cpu\n")
    # A folder of wheels of this machine's own does not have that version.
    with pytest.raises(EnvironmentProblem, match=r"PIP_EXTRA_INDEX_URL=https://download\.pytorch\.org/whl/cpu"):
        build(tmp_path / "built", requirements)


def test_one_process_builds_an_environment(tmp_path: Path) -> None:
    """A second one says so at once."""
    (tmp_path / ".tiny.lock").touch()
    with (tmp_path / ".tiny.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentProblem, match="another process is building tiny"):
            build(tmp_path, tmp_path / "requirements.txt")


def test_a_python_that_is_none_is_named(tmp_path: Path) -> None:
    """As a sentence."""
    (tmp_path / "requirements.txt").touch()
    with pytest.raises(EnvironmentProblem, match="/no/python cannot be run"):
        create("tiny", tmp_path, tmp_path / "requirements.txt", (), python="/no/python", say=print)


def test_names_of_requirements_are_those_of_distributions(tmp_path: Path) -> None:
    """Comments, options and pins left out."""
    (tmp_path / "r.txt").write_text("# why\n--no-index\nhuggingface_hub==0.36.2\nPyYAML == 6\n\n-r other.txt\n")
    assert names_in(tmp_path / "r.txt") == ["huggingface-hub", "pyyaml"]
