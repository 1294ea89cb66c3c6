"""The systemd unit, read by systemd."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.api.server import LAST_WRITES_S
from app.durations import parse_duration
from app.settings import Settings
from tests.deploy.tools import DEPLOY, REPOSITORY, run

UNIT = DEPLOY / "systemd" / "pipeserve.service"
EXPOSURE = 2.0
"""Of 10, at most: what systemd calls OK ends at 5, and a server on the network cannot have 0."""


def setting(name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert found, name
    return str(found[-1])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """With a program that is there."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/pipeserve/bin/", f"{REPOSITORY}/.venv/bin/"))
    return copy


def test_systemd_knows_every_line(unit: Path) -> None:
    """A directive that it does not know it ignores, with a word that fails the test."""
    assert run("systemd-analyze", "verify", unit) == ""


def test_service_is_hardly_exposed(unit: Path) -> None:
    """By systemd's own measure."""
    report = run("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found is not None and float(found[1]) <= EXPOSURE, report


def test_service_has_the_time_to_drain() -> None:
    """systemd kills no sooner than the server is done."""
    assert parse_duration(setting("TimeoutStopSec")) >= Settings().drain_s + LAST_WRITES_S + 5


def test_workers_are_not_told_to_stop() -> None:
    """The first signal is for the server alone, which drains while its workers go on."""
    assert setting("KillMode") == "mixed"


def test_workers_may_bar_themselves() -> None:
    """The unit's own filter of system calls leaves them seccomp, and Landlock, which @system-service lacks."""
    allowed = setting("SystemCallFilter").split()
    assert {"seccomp", "landlock_create_ruleset", "landlock_restrict_self"} <= set(allowed)
