"""The pages in a real headless Chromium, before a real server with the small models of the tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from app.cli import cli
from tests import models, tiny
from tests.server import RunningServer
from tests.ui.chromium import MARKS, WAIT_MS, chromium, page_of, playwright
from tests.worker.test_confinement import landlock_version, statuses_of

expect = playwright.expect


pytestmark = MARKS


@dataclass(frozen=True)
class Locked:
    """key: of an administrator. guest_key: of somebody who may only ask models."""

    running: RunningServer
    key: str
    guest_key: str

    @property
    def url(self) -> str:
        return self.running.url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("ui")
    catalog, keys = folder / "models.yaml", folder / "keys.yaml"
    entries = [
        {"id": "people", "task": "token-classification", "model": str(models.build("token-classification", folder))},
        {"id": "moods", "task": "text-classification", "model": str(models.build("sequence-classification", folder))},
        {"id": "talk", "task": "text-generation", "model": str(tiny.build("chatml", folder))},
    ]
    catalog.write_text(yaml.safe_dump({"models": entries}))
    key, guest_key = created_key(keys, "operator", "infer", "admin"), created_key(keys, "guest", "infer")
    with RunningServer(catalog, "--keys-file", str(keys), cache_dir=folder / "cache") as running:
        yield Locked(running, key=key, guest_key=guest_key)


def created_key(keys: Path, name: str, *scopes: str) -> str:
    options = [option for scope in scopes for option in ("--scope", scope)]
    made = CliRunner().invoke(cli, ["keys", "create", name, "--keys-file", str(keys), *options])
    assert made.exit_code == 0, made.output
    return made.stdout.strip()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(server: Locked, browser: Any) -> Iterator[Any]:
    """Logged in. Fails the test for an answer that is an error, too."""
    errors: list[str] = []
    with page_of(browser, server.url) as made:
        made.goto("/ui/", wait_until="commit", timeout=WAIT_MS)
        made.get_by_label("API key").fill(server.key, timeout=WAIT_MS)
        made.on("response", lambda got: errors.extend([f"{got.status} {got.url}"] if got.status >= 400 else []))
        made.get_by_role("button", name="Log in").click()
        made.locator(".ps-card").first.wait_for(timeout=WAIT_MS)
        yield made
    assert errors == []


def test_nobody_sees_models_without_a_key(server: Locked, browser: Any) -> None:
    """A wrong one is told, and no key stands in an address or in the log."""
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    page.goto("/ui/model?id=moods", wait_until="commit", timeout=WAIT_MS)
    page.get_by_label("API key").fill("wrong-key-of-somebody", timeout=WAIT_MS)
    page.get_by_role("button", name="Log in").click()
    assert "not valid" in page.get_by_role("alert").inner_text()
    page.get_by_label("API key").fill(server.guest_key)
    page.get_by_role("button", name="Log in").click()
    page.locator(".ps-head").wait_for(timeout=WAIT_MS)
    assert page.url.endswith("/ui/model?id=moods")
    page.get_by_role("button", name="Compute").wait_for(timeout=WAIT_MS)
    assert page.get_by_role("button", name="Load moods").count() == 0  # it is for administrators
    context.close()
    assert not any(server.guest_key in line or "wrong-key" in line for line in server.running.log)


def test_model_is_found_loaded_and_unloaded(page: Any) -> None:
    """Search and filters narrow the cards down; the state follows."""
    assert page.locator(".ps-card:visible").count() == 3
    page.keyboard.press("/")
    page.keyboard.type("mood")
    assert page.locator(".ps-card:visible").count() == 1
    page.get_by_role("button", name="Load moods", exact=True).click()
    page.locator(".ps-card[data-name=moods] .ps-is-ready").wait_for(timeout=WAIT_MS)
    assert page.locator(".ps-card:visible").count() == 1  # the search is still there
    page.get_by_role("button", name="Unload moods").click()
    page.locator(".ps-card[data-name=moods] .ps-is-unloaded").wait_for(timeout=WAIT_MS)
    page.keyboard.press("Escape")
    assert page.locator(".ps-card:visible").count() == 3


def test_task_is_tried_on_the_models_page(page: Any) -> None:
    """The answer is drawn, and the curl line asks the same."""
    page.locator(".ps-card[data-name=people] a").click()
    page.locator(".ps-head").wait_for(timeout=WAIT_MS)
    page.get_by_label("Input", exact=True).fill("Ada Lovelace lived in London")
    page.get_by_role("button", name="Compute").click()
    page.locator(".ps-result .ps-answer").wait_for(timeout=WAIT_MS)
    assert page.locator(".ps-result .ps-answer").inner_text().replace("\n", " ").startswith("Ada")
    page.get_by_text("The same with curl").click()
    assert "Ada Lovelace lived in London" in page.locator(".ps-fold pre:visible").inner_text()


def test_chat_is_streamed(page: Any) -> None:
    """Question and answer stand there, and the box is ready for the next."""
    page.goto("/ui/model?id=talk")
    box = page.get_by_placeholder("Message")
    box.fill("hello there", timeout=WAIT_MS)
    box.press("Enter")
    answer = page.get_by_test_id("bot").last
    expect(page.get_by_test_id("user")).to_have_text("hello there")
    expect(answer).not_to_have_text(re.compile(r"^\s*…?\s*$"), timeout=WAIT_MS)
    assert "⚠" not in answer.inner_text()
    expect(box).to_have_value("")


@pytest.mark.skipif(landlock_version() < 6, reason="needs Linux 6.12 with Landlock")
def test_process_of_the_pages_has_barred_itself(server: Locked, page: Any) -> None:
    """Every thread of it, the page being there; and it lacks nothing of what does that."""
    (pages,) = (one for one in server.running.descendants() if "app.ui" in one.cmdline())
    for status in statuses_of(pages.pid):
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert not any("less than others" in line for line in server.running.log)


def test_theme_is_kept(page: Any) -> None:
    """Of this browser, over a reload."""
    was = page.locator("body.dark").count()
    page.get_by_label("Light or dark").click()
    assert page.locator("body.dark").count() != was
    page.reload()
    page.locator(".ps-card").first.wait_for(timeout=WAIT_MS)
    assert page.locator("body.dark").count() != was


def test_phone_has_no_sideways_scrolling(page: Any) -> None:
    """At the width of a small one, on both pages."""
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/ui/", "/ui/model?id=people"):
        page.goto(path)
        page.locator(".ps-card, .ps-head").first.wait_for(timeout=WAIT_MS)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_logout_ends_the_session(page: Any) -> None:
    """The next page asks for the key again."""
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("API key").wait_for(timeout=WAIT_MS)
    page.goto("/ui/")
    page.get_by_label("API key").wait_for(timeout=WAIT_MS)
