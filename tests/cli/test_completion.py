"""What Tab offers, as shells ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.completion import task_names
from app.tasks.registry import TASKS
from tests.cli.test_commands import REPOSITORY

CATALOG = """
models:
  - {id: reviews, model: acme/x, aliases: [opinions]}
  - {task: ner, model: acme/entities}
  - task: fill-mask
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.yaml").write_text(CATALOG)
    (tmp_path / "other.yaml").write_text("models: [{model: acme/other}]")
    (tmp_path / "broken.yaml").write_text("models: [")
    return tmp_path


def asked(folder: Path, program: str, **variables: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


MAIN = "from app.cli import main; main()"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("pipeserve pul", ["pull"]),
        ("pipeserve show ", ["reviews", "opinions", "acme/entities"]),
        ("pipeserve tune --models other.yaml ", ["acme/other"]),
        ("pipeserve tune --models broken.yaml ", []),
        ("pipeserve run re", ["reviews"]),
        ("pipeserve bench zero-shot-im", ["zero-shot-image-classification"]),
        ("pipeserve list --task depth", ["depth-estimation"]),
    ],
)
def test_words_that_fit_are_offered(folder: Path, words: str, offered: list[str]) -> None:
    """By the protocol that every shell's script speaks, here bash's."""
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert asked(folder, MAIN, _PIPESERVE_COMPLETE="complete_bash", **variables) == (offered or [""])


def test_nothing_heavy_is_imported(folder: Path) -> None:
    """Tab is pressed by people who wait: neither torch nor the tasks' own modules."""
    program = (
        "import sys\ntry:\n    " + MAIN + "\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'transformers', 'fastapi', 'app.tasks.registry', 'httpx2'} & set(sys.modules)"
    )
    variables = {"COMP_WORDS": "pipeserve run ", "COMP_CWORD": "2"}
    assert "reviews" in asked(folder, program, _PIPESERVE_COMPLETE="complete_bash", **variables)


def test_bash_completes(folder: Path) -> None:
    """With the script that `--show-completion` prints, in a real one."""
    command = folder / "pipeserve"
    command.write_text(f"#!{sys.executable}\n{MAIN}\n")
    command.chmod(0o755)
    tab = 'COMP_WORDS=(pipeserve run revi); COMP_CWORD=2; _pipeserve_completion pipeserve; echo "${COMPREPLY[@]}"'
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["bash", "-c", f'eval "$(pipeserve --show-completion)"; {tab}'],
        cwd=folder, env={**os.environ, **path}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "reviews", done.stdout + done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_their_scripts(folder: Path, shell: str) -> None:
    """They ask in the same way."""
    assert any("_PIPESERVE_COMPLETE" in line for line in asked(folder, MAIN, _PIPESERVE_COMPLETE=f"source_{shell}"))


def test_tasks_are_those_of_the_registry() -> None:
    """Which is read here, and not imported."""
    assert set(task_names("")) == set(TASKS)
