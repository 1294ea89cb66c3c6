"""The rivals' environments: of pinned requirements, and a failure is told once and remembered."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from app.environments.building import State
from app.environments.places import STATE
from bench.environments import ALL, TRANSFORMERS, Environment
from bench.processes import Unavailable


@dataclass(frozen=True)
class Rival(Environment):
    """One that is built elsewhere."""

    root: Path = Path()

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def requirements(self) -> Path:
        return self.root / "requirements.txt"


@pytest.fixture
def rival(tmp_path: Path) -> Rival:
    (tmp_path / "requirements.txt").write_text("./no-such-wheel.whl\n")
    return Rival("rival", "rival", root=tmp_path)


def test_every_rival_is_pinned() -> None:
    """And none brings another build of torch than ours: a torch for CUDA is larger than all of them."""
    for environment in ALL:
        lines = environment.requirements.read_text().splitlines()
        wanted = [line for line in lines if line and not line.startswith("#")]
        assert {"torch==2.13.0", "torch==2.13.0+cpu"} & set(wanted)
        assert [one for one in wanted if not re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.+]+", one)] == []


def test_environment_of_other_requirements_is_not_made(rival: Rival) -> None:
    """It is built anew when a pin changes."""
    assert not rival.is_made()
    rival.folder.mkdir()
    digest = hashlib.sha256(rival.requirements.read_bytes()).hexdigest()
    (rival.folder / STATE).write_bytes(msgspec.json.encode(State(python="3.11.7", requirements=digest)))
    assert rival.is_made()
    rival.ensure(may_install=False)
    rival.requirements.write_text(TRANSFORMERS.requirements.read_text())
    assert not rival.is_made()


@pytest.mark.slow
@pytest.mark.timeout(600)  # a venv is made, and the machine may be busy
def test_environment_that_cannot_be_built_says_why_and_is_tried_once(rival: Rival) -> None:
    """Its reason stands in the table; the next run does not wait for it again."""
    with pytest.raises(Unavailable, match=r"^it could not be installed: .*no-such-wheel\.whl"):
        rival.ensure()
    with pytest.raises(Unavailable, match=r"no-such-wheel.* \(when it was last tried; remove .*rival\.failed to try"):
        rival.ensure(may_install=False)
    assert not rival.folder.exists()
