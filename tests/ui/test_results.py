"""Answers as HTML: what is marked, drawn and escaped."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.tasks.base import Task
from app.tasks.registry import TASKS
from app.tasks.samples import PNG_BASE64, WAV
from app.ui.client import Answer, ApiError
from app.ui.try_it.beside import beside_html, error_html
from app.ui.try_it.results import abridged, answer_html, file_html
from app.ui.try_it.sounds import sound_html
from app.ui.try_it.vectors import similarities

EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_tasks_example_answer_is_shown(task: Task) -> None:
    """And none of them as mere JSON but those that are nothing else."""
    html = answer_html(task.name, task.example.body, task.example.answer)
    assert html
    if "ps-json" in html:
        assert task.name in {"text-to-audio", "image-to-image", "any-to-any"}, html


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
    html = file_html(b"abc", "audio/wav")
    assert html.startswith("<audio ") and "controls" in html and 'src="data:audio/wav;base64,YWJj"' in html
    assert "<img" in file_html(b"abc", "image/png") and "3 bytes" in file_html(b"abc", "x/y")


def test_several_texts_are_compared_with_each_other() -> None:
    """By the cosine of their vectors."""
    assert similarities([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 0.0]]) == [
        pytest.approx(row) for row in ([1, 0, 0.5**0.5, 0], [0, 1, 0.5**0.5, 0], [0.5**0.5, 0.5**0.5, 1, 0], [0] * 4)
    ]
    html = answer_html("feature-extraction", {"inputs": ["a", "b"]}, [[1.0, 0.0], [0.0, 2.0]])
    assert re.findall(r">(-?\d\.\d{3})</td>", html) == ["1.000", "0.000", "0.000", "1.000"]
    assert "ps-matrix" not in answer_html("feature-extraction", {"inputs": "a"}, [[1.0, 0.0]])
    assert "ps-matrix" not in answer_html("feature-extraction", {"inputs": ["a", "b"]}, [[[1.0]], [[2.0]]])


def test_parts_of_speech_have_their_times() -> None:
    """The last one may have no end."""
    parts = [{"text": " Stew", "timestamp": [0.0, 61.5]}, {"text": EVIL, "timestamp": [61.5, None]}]
    html = answer_html("automatic-speech-recognition", {"inputs": ""}, {"text": " Stew", "chunks": parts})
    assert "0.00 s – 1:01.50" in html and "1:01.50 – …" in html and "<script" not in html


def test_sound_has_its_waveform() -> None:
    """And its length; what is no WAV of 16 bits is played without."""
    html = sound_html(WAV, "data:audio/wav;base64,x")
    assert html.count("<rect") == 160 and "0.50 s" in html and "<audio" in html
    for broken in (b"", b"RIFF", WAV[:20], WAV[:46]):
        assert "<audio" in sound_html(broken, "data:audio/wav;base64,x")


def test_names_stay_within_the_picture() -> None:
    """Of boxes that reach beyond it as well."""
    answer = [{"label": EVIL, "score": 0.5, "box": {"xmin": -20, "ymin": -5, "xmax": 900, "ymax": 900}}]
    html = answer_html("object-detection", {"inputs": PNG_BASE64}, answer)
    assert '<g class="ps-name"><rect x="0.0" y="0.0"' in html and "<script" not in html


def test_files_and_long_rows_are_abridged() -> None:
    """Nobody reads them; texts are whole."""
    text = "a word " * 100
    short = abridged({"mask": "A" * 1000, "vector": list(range(100)), "text": text, "few": [1, 2]})
    assert short["mask"] == "A" * 40 + "... (1000 characters)"
    assert short["vector"] == [0, 1, 2, 3, 4, 5, "... 94 more"]
    assert (short["text"], short["few"]) == (text, [1, 2])


def test_under_an_answer_is_what_asks_the_same() -> None:
    """In curl, as a link, and the answer as it came: each to be copied."""
    answer = Answer(content=b'{"a": "<b>"}', media_type="application/json", total_ms=12.3, batch_size=4)
    html = beside_html(answer, curl='curl -d \'{"inputs": "<b>"}\'', link="http://host/ui/model?id=m&task=t")
    assert 'data-copy="curl -d &#x27;{&quot;inputs&quot;: &quot;&lt;b&gt;&quot;}&#x27;"' in html
    assert 'data-copy="http://host/ui/model?id=m&amp;task=t"' in html
    assert "12 ms in the server, 4 in its batch" in html and "&quot;a&quot;: &quot;&lt;b&gt;&quot;" in html
    assert "Copy link" not in beside_html(answer, curl="curl", link=None)


def test_errors_say_what_they_are_and_when_to_try_again() -> None:
    """Beside the server's own sentence."""
    html = error_html(ApiError(429, f"The queue is full {EVIL}.", retry_after_s=2.0))
    assert "<b>Busy</b>" in html and "Try again in 2 s." in html and "<script" not in html
    assert "This file cannot be read" in error_html(ApiError(415, "x")) and "Error 418" in error_html(
        ApiError(418, "x")
    )
