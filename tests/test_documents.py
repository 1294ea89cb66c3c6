"""What the documents name exists: routes, flags, keys of models.yaml; and the site is whole and loads nothing from
elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from app.access.key_file import KeyForm
from app.access.keys import SCOPES
from app.cli import cli
from app.declaration.form import FORMS_INSIDE, AdapterForm, EntryForm, FileForm
from app.tasks.registry import TASKS
from scripts import api_reference

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
GUIDES = sorted(path.name for path in (DOCS / "migrating").glob("*.md"))
QUICK_STARTS = ("quickstart.md", "quickstart.zh.md")
BESIDE_THE_DOCUMENT = ("/v1/models/reload", "/docs", "/openapi.json")
"""Routes that OpenAPI's document does not list, or lists where a server has a file to read again."""


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    return api_reference.document()


def is_route(path: str, api: dict[str, Any]) -> bool:
    """Names stand in angle brackets, or are a model's."""
    if path in BESIDE_THE_DOCUMENT:
        return True
    wanted = re.sub(r"<(?:model|id)>", "{model_id}", path.split("?")[0])
    names = [wanted, *(wanted.replace("<task>", task) for task in ("fill-mask",) if "<task>" in wanted)]
    patterns = [re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(known)) for known in api["paths"]]
    return any(re.fullmatch(pattern, name) for name in names for pattern in patterns)


def here(guide: str) -> Iterator[str]:
    """What a guide says of this server in code: the last cell of each row, and the first paragraph on routes."""
    text = (DOCS / "migrating" / guide).read_text()
    cells = [line.rstrip("| ").rsplit(" | ", 1)[-1] for line in text.splitlines() if line.startswith("|")]
    routes = re.search(r"^## Routes\n\n([^|#]*?)\n\n", text, re.MULTILINE)
    for part in [*cells, routes[1] if routes else ""]:
        yield from re.findall(r"`([^`]+)`", part)


def commands(text: str) -> list[str]:
    return re.findall(r"http://127\.0\.0\.1:\d+(/[^\s'\"`]*)", re.sub(r"^.*# before$", "", text, flags=re.MULTILINE))


def keys_of_forms() -> set[str]:
    forms: list[type[BaseModel]] = [FileForm, EntryForm, AdapterForm]
    keys = {key for form in forms for key in form.model_fields}
    for inside in FORMS_INSIDE.values():
        keys |= {f"{name}.{key}" for name, form in inside.items() for key in form.model_fields}
    return keys


def options() -> set[str]:
    """Of `pipeserve serve`."""
    command = typer.main.get_command(cli).commands["serve"]  # type: ignore[attr-defined]
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("page", [*QUICK_STARTS, *(f"migrating/{name}" for name in GUIDES), "faq.md", "api.md"])
def test_addresses_of_commands_are_routes(page: str, api: dict[str, Any]) -> None:
    """A curl line of a guide asks for something that is there."""
    asked = commands((DOCS / page).read_text())
    assert [path for path in asked if path != "/v1" and not is_route(path, api)] == []


@pytest.mark.parametrize("guide", [name for name in GUIDES if name != "README.md"])
def test_what_guides_say_of_this_server_is_there(guide: str, api: dict[str, Any]) -> None:
    """Routes, flags of `serve`, and keys of models.yaml or of requests."""
    fields = {key for schema in api["components"]["schemas"].values() for key in schema.get("properties", {})}
    known = keys_of_forms() | set(KeyForm.model_fields) | set(SCOPES) | fields
    flags, missing, num_found = options(), [], 0
    for name in here(guide):
        if name.startswith("/") and name != "/repository":
            is_there = is_route(name, api)
        elif name.startswith("--"):
            is_there = name.split(" ")[0] in flags
        elif re.fullmatch(r"(?!pipeserve_)[a-z_]+(\.[a-z_]+)?(: .*)?", name):
            is_there = name.split(":")[0] in known
        else:
            continue
        num_found += 1
        missing += [] if is_there else [name]
    assert missing == []
    assert num_found > 8


def test_route_that_is_none_is_found(api: dict[str, Any]) -> None:
    """The checks above can fail."""
    assert is_route("/models/<model>/embed", api) and is_route("/v1/fill-mask/acme", api)
    assert not is_route("/embeds", api) and not is_route("/v1/fill-masks", api)


def test_quick_starts_show_the_same_commands() -> None:
    """In every language; comments and what is said to the model aside."""
    shown = [code_of((DOCS / name).read_text()) for name in QUICK_STARTS]
    assert len(shown[0]) > 5
    assert all(other == shown[0] for other in shown[1:])


def code_of(text: str) -> list[str]:
    blocks = re.findall(r"^```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    plain = [re.sub(r"\s*#.*$", "", block, flags=re.MULTILINE) for block in blocks]
    return [re.sub(r'"content": "[^"]*"', '"content": ""', block) for block in plain]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make check` does: a link or an anchor that leads nowhere ends it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0 and "WARNING -" not in done.stderr, done.stderr
    assert "INFO" in done.stderr  # what is silenced is not counted
    return folder


def test_site_has_every_page(site: Path) -> None:
    """The README as its home, a page of each task with its picture, the reference, the search's index."""
    assert "One HTTP server for every Hugging Face pipeline" in (site / "index.html").read_text()
    assert "/v1/chat/completions" in (site / "openapi.html").read_text()
    assert [name for name in TASKS if not (site / "tasks" / "pictures" / f"{name}.svg").exists()] == []
    assert [name for name in TASKS if f"pictures/{name}.svg" not in (site / "tasks" / f"{name}.html").read_text()] == []
    assert (site / "search" / "search_index.json").exists()
    assert (site / "models.schema.json").exists()


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    """No fonts, scripts, styles or pictures of other hosts: links that a reader follows are all that lead out."""
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 70
    assert sorted({address for page in pages for address in loads.findall(page.read_text())}) == []


def test_lists_and_code_are_rendered(site: Path) -> None:
    """GitHub's Markdown is looser than the site's, whose pages say so by marks that are left over."""
    raw = re.compile(r"```|<p>[^<]*\n- |<p>\|[^<]*\|\n\|")
    assert sorted(page.name for page in site.rglob("*.html") if raw.search(page.read_text())) == []
