"""What the pages show of models that live, in a real headless Chromium: pins, charts, failures, being offline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.models import build
from tests.server import RunningServer
from tests.ui.chromium import MARKS, WAIT_MS, chromium, page_of

pytestmark = MARKS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("ui")
    moods = build("sequence-classification", folder)
    (moods / "README.md").write_text("# Moods\n\n" + "A long story of how it was made. " * 200 + "\n\nThe very end.\n")
    models = [
        {"id": "moods", "task": "text-classification", "model": str(moods)},
        {"id": "moods-too", "task": "text-classification", "model": str(moods), "dtype": "float32"},
        {"id": "gone", "task": "text-classification", "model": str(folder / "nothing-here")},
    ]
    catalog = folder / "models.yaml"
    catalog.write_text(yaml.safe_dump({"models": models}))
    with RunningServer(catalog, cache_dir=folder / "cache") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(server: RunningServer, browser: Any) -> Iterator[Any]:
    with page_of(browser, server.url) as made:
        yield made


def open_model(page: Any, model: str) -> None:
    page.goto(f"/ui/model?id={model}", wait_until="commit", timeout=WAIT_MS)
    page.locator(".ps-head").wait_for(timeout=WAIT_MS)


def card_of(server: RunningServer, model: str) -> Any:
    return server.get(f"/v1/models/{model}").json()


def test_model_is_pinned_from_the_catalogue(server: RunningServer, page: Any) -> None:
    """Once it is loaded; the button stays pressed, on its own page too, until it is pressed again."""
    page.goto("/ui/", wait_until="commit", timeout=WAIT_MS)
    page.get_by_role("button", name="Load moods", exact=True).click(timeout=WAIT_MS)
    pin = page.get_by_role("button", name="Pin moods", exact=True)
    pin.click(timeout=WAIT_MS)
    page.locator(".ps-card[data-name=moods] .ps-pin[aria-pressed=true]").wait_for(timeout=WAIT_MS)
    assert card_of(server, "moods")["pinned"] is True
    open_model(page, "moods")
    page.locator(".ps-head .ps-pin[aria-pressed=true]").click(timeout=WAIT_MS)
    page.locator(".ps-head .ps-pin[aria-pressed=false]").wait_for(timeout=WAIT_MS)
    assert card_of(server, "moods")["pinned"] is False


def test_charts_follow_what_the_model_does(server: RunningServer, page: Any) -> None:
    """While they are looked at, and not in a tab that nobody sees."""
    open_model(page, "moods")
    page.get_by_text("No request ended in the last 5 minutes.").wait_for(timeout=WAIT_MS)
    for _ in range(20):
        server.post("/v1/text-classification", {"model": "moods", "inputs": "a good film"})
    page.locator(".ps-chart b", has_text="ms").wait_for(timeout=WAIT_MS)
    assert page.locator(".ps-chart").count() == 3
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
    page.wait_for_timeout(500)  # what has begun is answered
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(6000)
    assert asked == []


def test_failed_and_unknown_models_are_told(page: Any) -> None:
    """With the server's own sentence, and what can be done."""
    open_model(page, "gone")
    assert "There is no folder" in page.locator(".ps-reason").first.inner_text()
    page.get_by_role("button", name="Try again gone").wait_for(timeout=WAIT_MS)
    page.goto("/ui/model?id=nobody", wait_until="commit", timeout=WAIT_MS)
    page.get_by_text("This model cannot be shown").wait_for(timeout=WAIT_MS)
    assert 'There is no model "nobody"' in page.get_by_role("alert").inner_text()


def test_long_card_is_folded(page: Any) -> None:
    """Until somebody wants all of it; the tree names the other entry of the same model."""
    open_model(page, "moods")
    text = page.locator(".ps-long-card article")
    folded = text.bounding_box()["height"]
    page.get_by_role("button", name="Show all of it").click()
    assert text.bounding_box()["height"] > 1.5 * folded
    page.get_by_role("button", name="Show less").click()
    assert text.bounding_box()["height"] == folded
    assert page.locator(".ps-tree a").all_inner_texts() == ["moods-too"]


def test_server_that_leaves_or_is_gone_is_told(page: Any) -> None:
    """And the page comes back by itself."""
    page.goto("/ui/", wait_until="commit", timeout=WAIT_MS)
    page.locator(".ps-card").first.wait_for(timeout=WAIT_MS)
    page.route("**/readyz", lambda route: route.fulfill(status=503))
    page.get_by_text("The server is shutting down").wait_for(timeout=WAIT_MS)
    page.route("**/readyz", lambda route: route.abort())
    page.get_by_text("The server cannot be reached").wait_for(timeout=WAIT_MS)
    page.unroute("**/readyz")
    page.locator("#ps-offline").wait_for(state="detached", timeout=WAIT_MS)
    page.locator(".ps-card").first.wait_for(timeout=WAIT_MS)
