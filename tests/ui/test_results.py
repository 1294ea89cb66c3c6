"""Answers as HTML: what is marked, drawn and escaped."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.tasks.base import Task
from app.tasks.registry import TASKS
from app.tasks.samples import PNG_BASE64
from app.ui.try_it.results import answer_html, file_html

EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_tasks_example_answer_is_shown(task: Task) -> None:
    """And none of them as mere JSON but those that are nothing else."""
    html = answer_html(task.name, task.example.body, task.example.answer)
    assert html
    if "ps-json" in html:
        assert task.name in {"decision", "text-to-audio", "image-to-image", "any-to-any"}, html


def test_entities_are_marked_where_they_stand() -> None:
    """The text between them is the text."""
    answer = [
        {"entity_group": "LOC", "score": 0.9, "word": "London", "start": 22, "end": 28},
        {"entity_group": "PER", "score": 0.9, "word": "Ada Lovelace", "start": 0, "end": 12},
    ]
    html = answer_html("token-classification", {"inputs": "Ada Lovelace lived in London."}, answer)
    marks = re.findall(r"<mark [^>]*>(.*?)<small>(\w+)</small></mark>", html)
    assert marks == [("Ada Lovelace", "PER"), ("London", "LOC")]
    assert "</mark> lived in <mark" in html


def test_answer_is_marked_in_its_context() -> None:
    """Where the model says that it is."""
    body = {"inputs": {"question": "Where?", "context": "Ada is in London."}}
    html = answer_html("question-answering", body, {"score": 0.5, "start": 10, "end": 16, "answer": "London"})
    assert re.search(r"Ada is in <mark [^>]*>London</mark>\.", html) and "50.0%" in html


def test_boxes_are_drawn_in_the_pictures_own_pixels() -> None:
    """So that the browser scales both together."""
    answer = [{"label": "ball", "score": 0.97, "box": {"xmin": 12, "ymin": 10, "xmax": 52, "ymax": 40}}]
    html = answer_html("object-detection", {"inputs": PNG_BASE64}, answer)
    assert 'viewBox="0 0 64 64"' in html and 'x="12.0" y="10.0" width="40.0" height="30.0"' in html
    assert "above the threshold" in answer_html("object-detection", {"inputs": PNG_BASE64}, [])


def test_lines_join_two_pictures() -> None:
    """The second one's points lie to the right of the first one."""
    pair = {"keypoint_image_0": {"x": 3, "y": 4}, "keypoint_image_1": {"x": 5, "y": 6}, "score": 1.0}
    html = answer_html("keypoint-matching", {"inputs": [PNG_BASE64, PNG_BASE64]}, [pair])
    assert 'x1="3.0" y1="4.0" x2="72.0" y2="6.0"' in html


@pytest.mark.parametrize(
    ("task", "body", "answer"),
    [
        ("text-classification", {"inputs": "x"}, [[{"label": EVIL, "score": 1.0}]]),
        ("token-classification", {"inputs": EVIL}, [{"entity": EVIL, "score": 1.0, "start": 0, "end": 8}]),
        ("text-generation", {"inputs": "x"}, [{"generated_text": EVIL}]),
        ("question-answering", {"inputs": {"context": EVIL}}, {"answer": EVIL, "score": 1, "start": 0, "end": 3}),
        ("sentence-similarity", {"inputs": {"sentences": [EVIL]}}, [0.5]),
        ("image-segmentation", {"inputs": PNG_BASE64}, [{"label": EVIL, "mask": EVIL}]),
        ("decision", {"inputs": "x"}, {EVIL: [EVIL]}),
    ],
)
def test_whatever_models_say_is_text(task: str, body: dict[str, Any], answer: Any) -> None:
    """Nothing of it becomes part of the page."""
    assert "<script" not in answer_html(task, body, answer)


@pytest.mark.parametrize("answer", [None, 3, [], [[]], {"score": "much"}, [{"label": "a", "score": None}]])
def test_unexpected_answers_are_shown_as_they_are(answer: Any) -> None:
    """A custom model may answer anything."""
    for task in ("text-classification", "token-classification", "object-detection", "fill-mask"):
        assert answer_html(task, {"inputs": PNG_BASE64}, answer)


def test_files_are_played_and_shown() -> None:
    """By their media type."""
    assert file_html(b"abc", "audio/wav").startswith(
        '<audio class="ps-sound" controls src="data:audio/wav;base64,YWJj"'
    )
    assert "<img" in file_html(b"abc", "image/png") and "3 bytes" in file_html(b"abc", "x/y")
