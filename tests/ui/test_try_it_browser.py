"""Forms and their answers in a real headless Chromium, before a real server with the small models of the tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import yaml

from app.tasks.samples import PNG
from tests import models, tiny
from tests.server import RunningServer
from tests.ui.chromium import MARKS, WAIT_MS, chromium, page_of

CARD = """---
widget:
- src: samples/disc.png
  example_title: A disc
- src: https://huggingface.co/datasets/acme/pictures/resolve/main/tiger.jpg
  example_title: A tiger
---
# Shapes
"""
WITH_MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]

pytestmark = MARKS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("try-it")
    shapes = tiny.build("vit-classifier", folder)
    (shapes / "samples").mkdir()
    (shapes / "samples" / "disc.png").write_bytes(PNG)
    (shapes / "README.md").write_text(CARD)
    entries = [
        {"id": "people", "task": "token-classification", "model": str(models.build("token-classification", folder))},
        {"id": "near", "task": "sentence-similarity", "model": str(models.build("sentence-encoder", folder))},
        {"id": "shapes", "task": "image-classification", "model": str(shapes)},
        {"id": "talk", "task": "text-generation", "model": str(tiny.build("llama-chat", folder))},
        *(
            {"id": name, "task": tiny.TASK_OF[name], "model": str(tiny.build(name, folder))}
            for name in ("segformer", "superglue", "wav2vec2-classifier", "vits")
        ),
    ]
    catalog = folder / "models.yaml"
    catalog.write_text(yaml.safe_dump({"models": entries}))
    with RunningServer(catalog, cache_dir=folder / "cache") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(*WITH_MICROPHONE) as started:
        yield started


@pytest.fixture
def page(server: RunningServer, browser: Any) -> Iterator[Any]:
    with page_of(browser, server.url, permissions=["clipboard-read", "clipboard-write", "microphone"]) as made:
        made.set_default_timeout(WAIT_MS)
        yield made


def opened(page: Any, address: str) -> Any:
    """The page, once its form is there."""
    page.goto(address, wait_until="commit", timeout=WAIT_MS)
    page.locator(".ps-try button:visible").first.wait_for()
    return page


def answer_of(page: Any) -> Any:
    """What the page shows for the form as it stands."""
    page.get_by_role("button", name="Compute").locator("visible=true").click()
    page.locator(".ps-under:visible, .ps-result .ps-alert:visible").first.wait_for()
    assert page.locator(".ps-result .ps-alert").all_inner_texts() == []
    return page.locator(".ps-result:visible").last


def copied(page: Any, button: Any) -> str:
    button.click()
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_curl_under_an_answer_asks_the_same(page: Any, server: RunningServer) -> None:
    """What its button copies is run, and answers what the page's JSON says."""
    opened(page, "/ui/model?id=people")
    page.get_by_label("Input", exact=True).fill("Ada Lovelace's friend isn't \"here\" & $(date)")
    answer = answer_of(page)
    folds = answer.locator(".ps-fold")
    folds.nth(0).locator("summary").click()
    folds.nth(1).locator("summary").click()
    line = copied(page, folds.nth(0).get_by_role("button"))
    assert line.startswith("curl ") and server.url in line
    ran = subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=60)
    assert orjson.loads(ran.stdout) == orjson.loads(copied(page, folds.nth(1).get_by_role("button")))


def test_link_opens_the_form_as_it_was(page: Any) -> None:
    """Its text and its parameters."""
    opened(page, "/ui/model?id=people")
    page.get_by_label("Input", exact=True).fill("Ada & London?")
    page.get_by_role("button", name="Parameters").click()
    page.locator(".cm-content:visible").first.fill('{"aggregation_strategy": "none"}')
    answer_of(page)
    link = copied(page, page.get_by_role("button", name="Copy link"))
    opened(page, link)
    assert page.get_by_label("Input", exact=True).input_value() == "Ada & London?"
    assert '"aggregation_strategy": "none"' in page.locator(".cm-content:visible").first.inner_text()


def test_example_of_the_card_is_shared(page: Any) -> None:
    """A file of the model's folder fills the form, from the button and from the link; one at another host is no
    example."""
    opened(page, "/ui/model?id=shapes")
    assert page.locator(".ps-examples button").all_inner_texts() == ["A disc"]
    page.get_by_role("button", name="A disc").click()
    page.locator(".ps-given img[src*='disc.png']").wait_for()
    shown = answer_of(page).locator(".ps-bars").inner_text()
    link = copied(page, page.get_by_role("button", name="Copy link"))
    assert link.endswith("/ui/model?id=shapes&task=image-classification&example=1")
    opened(page, link)
    page.locator(".ps-given img[src*='disc.png']").wait_for()
    assert answer_of(page).locator(".ps-bars").inner_text() == shown


@pytest.mark.parametrize(
    ("model", "drawing"),
    [
        ("near", ".ps-matrix >> nth=1"),
        ("segformer", "svg.ps-picture mask"),
        ("superglue", "svg.ps-picture line"),
        ("vits", "svg.ps-wave"),
    ],
)
def test_answers_are_drawn(page: Any, model: str, drawing: str) -> None:
    """As what they are, not as JSON."""
    opened(page, f"/ui/model?id={model}")
    if model == "near":
        page.get_by_label("Sentences to compare it with").fill("good\nbad\nthe river")
    answer_of(page).locator(drawing).first.wait_for(state="attached")


def test_sound_is_recorded_and_asked_about(page: Any) -> None:
    """From the microphone, which is the browser's own fake."""
    opened(page, "/ui/model?id=wav2vec2-classifier")
    page.locator(".ps-try button[aria-label='Clear']").click()
    page.locator(".ps-try button[aria-label='Record audio']").click()
    page.locator(".ps-try button.record-button").click()
    page.wait_for_timeout(1500)
    with page.expect_response(lambda response: "/upload" in response.url):
        page.locator(".ps-try button.stop-button:visible").click()
    page.locator(".ps-try button[aria-label='Trim audio to selection']").wait_for()
    page.wait_for_timeout(500)  # until Gradio's form has the file's name
    assert answer_of(page).locator(".ps-bars div").count() > 1


def test_refusal_is_the_servers_sentence(page: Any) -> None:
    """With what it is, and the form is still there to be mended."""
    opened(page, "/ui/model?id=people")
    page.get_by_label("Input", exact=True).fill("good " * 200)
    page.get_by_role("button", name="Compute").click()
    alert = page.locator(".ps-alert")
    alert.wait_for()
    assert "Too much at once" in alert.inner_text() and "limit is" in alert.inner_text()
    page.get_by_label("Input", exact=True).fill("good")
    page.get_by_role("button", name="Compute").click()
    page.locator(".ps-under").wait_for()
    assert alert.count() == 0


def test_form_is_filled_in_with_the_keyboard_alone(page: Any) -> None:
    """Everything that can be done has a name, and shows where the keyboard is."""
    opened(page, "/ui/model?id=people&inputs=Ada")
    page.get_by_label("Input", exact=True).focus()
    names = []
    for _ in range(12):
        where = page.evaluate(
            "(() => { const at = document.activeElement; return [at.textContent.trim() || at.ariaLabel || at.tagName,"
            " getComputedStyle(at).outlineStyle]; })()"
        )
        names.append(where[0])
        assert where[1] != "none", names
        if where[0] == "Compute":
            break
        page.keyboard.press("Tab")
    assert names[-1] == "Compute"
    page.keyboard.press("Enter")
    page.locator(".ps-under").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Copy link"


def test_answers_fit_on_a_phone(page: Any) -> None:
    """At 390 pixels, long names and matrices included."""
    page.set_viewport_size({"width": 390, "height": 800})
    for address in ("/ui/model?id=near", "/ui/model?id=superglue", "/ui/model?id=talk&task=chat"):
        opened(page, address)
        if "chat" not in address:
            answer_of(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
