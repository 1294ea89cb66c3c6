"""What the README shows is what `make demo` runs."""

from __future__ import annotations

import re
from pathlib import Path

from demo.run import REQUESTS
from scripts.picture_demo import SHOWN

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()


def test_curl_commands_of_the_readme_are_those_of_the_demo() -> None:
    """The demo checks their answers each time it runs."""
    commands = {request.command.replace("$URL", "http://127.0.0.1:8000") for request in REQUESTS}
    shown = re.findall(r"^\$ (curl (?:.*\\\n)*.*)$", README, re.MULTILINE)
    assert len(shown) >= 2
    assert set(shown) <= commands


def test_picture_of_the_readme_shows_requests_of_the_demo() -> None:
    """`python -m scripts.picture_demo` draws it anew, from what the demo printed; no font comes from another host."""
    picture = (REPOSITORY / "docs" / "demo.svg").read_text()
    titles = [request.title for request in REQUESTS]
    assert all(any(title.startswith(shown) for title in titles) for shown in SHOWN)
    assert picture.startswith("<svg") and "url(" not in re.sub(r"url\(#[\w-]+\)", "", picture)
    for shown in SHOWN:
        assert shown.replace(" ", "&#160;") in picture


def test_tasks_of_the_readme_are_those_of_the_registry() -> None:
    """As many as it says."""
    from app.tasks.registry import TASKS

    found = re.search(r"All (\d+) tasks", README)
    assert found is not None and int(found[1]) == len(TASKS)
