"""The registry: every task is whole, and docs/tasks.md says what it says."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.tasks.architectures import ARCHITECTURES, AUTO_CLASSES
from app.tasks.curl import curl_of
from app.tasks.registry import ALIASES, ALL_TASKS, TASKS
from app.tasks.requests import RequestParser
from scripts import generate_tasks_reference

PIPELINES = frozenset(
    "any-to-any audio-classification automatic-speech-recognition decision depth-estimation"
    " document-question-answering feature-extraction fill-mask image-classification image-feature-extraction"
    " image-segmentation image-text-to-text keypoint-matching mask-generation object-detection"
    " table-question-answering text-classification text-generation text-to-audio token-classification"
    " video-classification zero-shot-audio-classification zero-shot-classification zero-shot-image-classification"
    " zero-shot-object-detection".split()
)
"""The 25 of transformers 5.23."""
DROPPED = frozenset(
    "question-answering summarization translation text2text-generation image-to-text visual-question-answering"
    " image-to-image".split()
)
"""Those that transformers 5 no longer has."""


def test_no_pipeline_is_missing() -> None:
    """All of transformers 5, those it dropped, and two that never were pipelines."""
    assert set(TASKS) == PIPELINES | DROPPED | {"sentence-similarity", "text-ranking"}


def test_documents_say_what_the_registry_says() -> None:
    """Regenerate docs/tasks.md and the tasks' pages with `python -m scripts.generate_tasks_reference`."""
    pages = generate_tasks_reference.pages()
    assert {path: path.read_text() for path in pages} == pages
    assert set(generate_tasks_reference.FOLDER.glob("*.md")) == set(pages) - {generate_tasks_reference.TARGET}


@pytest.mark.parametrize("name", TASKS)
def test_answer_of_the_documents_is_to_what_they_ask(name: str) -> None:
    """An example that changed is asked again: `python -m scripts.record_task_examples NAME`. Its picture is small."""
    recorded = json.loads(generate_tasks_reference.ANSWERS.read_text())[name]
    assert recorded["asked"] == curl_of(TASKS[name])
    picture = (generate_tasks_reference.FOLDER / "pictures" / f"{name}.svg").read_text()
    assert picture.startswith("<svg ") and len(picture) < 30_000


@pytest.mark.parametrize("name", ALL_TASKS)
def test_entry_is_whole(name: str) -> None:
    """Its code is there, its classes are transformers', what it implies exists, its example is a right request."""
    task = ALL_TASKS[name]
    module, _, stages = task.stages.partition(":")
    found = find_spec(module)
    assert found is not None and found.origin is not None
    assert re.search(rf"^class {stages}\b", Path(found.origin).read_text(), re.MULTILINE)
    assert set(task.auto_classes) <= set(AUTO_CLASSES)
    assert set(task.implies) <= set(ALL_TASKS)
    if task.is_listed:
        assert RequestParser(task).parse(task.example.body).num_items >= 1


@pytest.mark.parametrize("name", TASKS)
def test_curl_line_is_short_enough_for_people(name: str) -> None:
    """Files are named, never spelled out."""
    assert len(curl_of(TASKS[name])) < 400


def test_aliases_hide_no_task() -> None:
    """Each name means one thing."""
    assert not set(ALIASES) & set(TASKS)


def test_every_architecture_of_transformers_has_a_task_here() -> None:
    """The table that reads a task from a config names no task that is not served."""
    assert {task for tasks in ARCHITECTURES.values() for task in tasks} <= set(TASKS)
