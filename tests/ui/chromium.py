"""What tests of the pages in a real headless Chromium share. Importing it skips a module where the extra `ui` or
playwright is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium")
WAIT_MS = 90_000  # the pages' process imports Gradio first, maybe beside much else

MARKS = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; Debian's package is called chromium"),
]


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *options])
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Any, url: str, *, permissions: Sequence[str] = ()) -> Iterator[Any]:
    """An empty page with cookies of its own. Fails the test for a request to another host and an error of a script."""
    wrong: list[str] = []
    is_ours = (url, "data:", "blob:")
    context = browser.new_context(base_url=url)
    context.grant_permissions(permissions)
    page = context.new_page()
    page.on("request", lambda asked: wrong.extend([] if asked.url.startswith(is_ours) else [f"asked {asked.url}"]))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert wrong == []
