"""What the README shows is what `make demo` runs."""

from __future__ import annotations

import re
from pathlib import Path

from demo.run import REQUESTS

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def test_curl_commands_of_the_readme_are_those_of_the_demo() -> None:
    """The demo checks their answers each time it runs."""
    commands = {request.command.replace("$URL", "http://127.0.0.1:8000") for request in REQUESTS}
    shown = re.findall(r"^\$ (curl (?:.*\\\n)*.*)$", README, re.MULTILINE)
    assert len(shown) >= 4
    assert set(shown) <= commands


def test_tasks_of_the_readme_are_those_of_the_registry() -> None:
    """No task is missing, none is promised."""
    from app.tasks.registry import TASKS

    line = next(line for line in README.splitlines() if line.startswith("Tasks: "))
    listed = re.sub(r"\(`.*?`\)", "", line.removeprefix("Tasks: ").split(". ")[0])
    assert {name.strip() for name in re.split(r"[,;]", listed)} == set(TASKS)
