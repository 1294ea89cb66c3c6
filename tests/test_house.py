"""The house: what the README, the Makefile and the demo promise is there, and no machine's paths are in the files."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import app

REPOSITORY = Path(__file__).resolve().parent.parent


def tracked_files() -> list[Path]:
    """What is committed or would be: no ignored files."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [path for line in listed.stdout.splitlines() if (path := REPOSITORY / line).is_file()]


@pytest.mark.parametrize(
    "target", ["demo", "test", "test-all", "check", "chaos", "bench", "bench-all", "install", "clean"]
)
def test_makefile_has_target(target: str) -> None:
    """Every command that the README names is a target, and `make help` explains it."""
    assert re.search(rf"^{target}: .*## \w", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


def test_makefile_and_ci_call_scripts_that_exist() -> None:
    """A target never names a script that is not there, and scripts can be executed."""
    text = (REPOSITORY / "Makefile").read_text()
    scripts = [REPOSITORY / found for found in re.findall(r"scripts/\w+", text)] + [REPOSITORY / ".ci" / "run"]
    assert len(scripts) >= 6
    for script in scripts:
        assert script.is_file(), script
        assert script.stat().st_mode & 0o100, f"{script} is not executable"


def test_readme_tree_names_what_exists() -> None:
    """Every path in the README's file tree (two spaces of indentation a level) is there."""
    readme = (REPOSITORY / "README.md").read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    trees = [block for block in blocks if block.startswith("app/ ")]
    assert len(trees) == 1, "the README has one file tree, which begins with app/"
    folders: list[str] = []
    for line in trees[0].splitlines():
        if found := re.match(r"((?:  ){0,3})([\w.\-/]+(?:, [\w.\-/]+)*)(?:  |$)", line):
            for name in found[2].split(", "):
                folders[len(found[1]) // 2 :] = [name]
                assert REPOSITORY.joinpath(*folders).exists(), "/".join(folders)


def test_no_file_names_a_machine() -> None:
    """No absolute home or work folder and no package registry's address is committed."""
    home = re.compile(r"(?<![\w.~$}/-])/(?:root|home/[a-z]\w*|Users/\w+|work|farm)/\w")
    registry = re.compile(r"\b(?:pypi\.org|pythonhosted\.org|deb\.debian\.org|registry\.npmjs\.org)\b")
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:  # not text
            continue
        if path != Path(__file__).resolve():
            assert not home.search(text), f"{path}: {home.search(text)}"
            assert not registry.search(text), f"{path}: {registry.search(text)}"


def test_version_is_written_once() -> None:
    """The distribution's version is the package's."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "app/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", app.__version__)


def test_nothing_pulls_torchvision_in() -> None:
    """A torchvision built for another torch breaks every pipeline, so that no requirement of ours names it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    names = {re.split(r"[\[<>=!;~ ]", line)[0].lower() for line in [*project["dependencies"], *extras]}
    assert not names & {"torchvision", "torchaudio", "timm"}
    assert "optimum" not in {re.split(r"[\[<>=!;~ ]", line)[0].lower() for line in project["dependencies"]}


def test_shell_scripts_parse() -> None:
    """bash accepts every script without running it."""
    for script in [*(REPOSITORY / "scripts").iterdir(), REPOSITORY / ".ci" / "run"]:
        if script.is_file() and script.read_text().startswith("#!/usr/bin/env bash"):
            checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
            assert checked.returncode == 0, checked.stderr


def test_python_is_recent_enough() -> None:
    """The floor in pyproject.toml is what the tests run on, or below."""
    assert sys.version_info >= (3, 11)
