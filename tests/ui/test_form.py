"""Forms made of the examples in the registry, and what is asked when one is sent."""

from __future__ import annotations

import json

import pytest

from app.tasks.base import Task
from app.tasks.registry import TASKS
from app.ui.try_it.form import Field, body_of, fields_of, frame_of, more_parameters, parameters_of


def filled_in(field: Field, task: Task) -> object:
    """As the form's components have the example."""
    if field.kind in ("image", "audio", "video"):
        place: object = task.example.body
        for step in field.path:
            place = place[step]  # type: ignore[index]
        return place
    if field.kind == "texts":
        return field.example
    if field.kind == "lines":
        return "\n".join(field.example)
    if field.kind == "labels":
        return ", ".join(field.example)
    if field.kind == "table":
        return list(field.example), [list(row) for row in zip(*field.example.values(), strict=True)]
    if field.kind == "json":
        return json.dumps(field.example)
    return field.example


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_example_in_the_form_is_the_example_asked(task: Task) -> None:
    """Of every task: its fields hold its example, and sent as it is that is the request."""
    fields = fields_of(task)
    assert fields
    values = [filled_in(field, task) for field in fields]
    asked = body_of(fields, values, json.dumps(more_parameters(task.example.body)), frame=frame_of(task))
    assert asked == task.example.body


def test_kinds_follow_from_the_example() -> None:
    """Pictures, sounds, tables, lines and labels are told apart."""
    kinds = {name: [field.kind for field in fields_of(TASKS[name])] for name in TASKS}
    assert kinds["object-detection"] == ["image"]
    assert kinds["keypoint-matching"] == ["image", "image"]
    assert kinds["automatic-speech-recognition"] == ["audio"]
    assert kinds["sentence-similarity"] == ["text", "lines"]
    assert kinds["table-question-answering"] == ["text", "table"]
    assert kinds["zero-shot-image-classification"] == ["image", "labels"]
    assert sorted(kinds["visual-question-answering"]) == ["image", "text"]


def test_messages_are_a_picture_and_a_text() -> None:
    """Nobody writes base64 into JSON."""
    fields = fields_of(TASKS["image-text-to-text"])
    assert sorted((field.kind, field.label) for field in fields) == [("image", "Image"), ("text", "Text")]
    values = ["iVBO" if field.kind == "image" else "What is it?" for field in fields]
    content = body_of(fields, values, "", frame=frame_of(TASKS["image-text-to-text"]))["inputs"][0]["content"]
    assert content == [{"type": "image", "base64": "iVBO"}, {"type": "text", "text": "What is it?"}]


def test_several_texts_are_a_list() -> None:
    """One alone is a text, as programs send it."""
    (field,) = fields_of(TASKS["feature-extraction"])
    assert body_of([field], ["one\n\n two "], "") == {"inputs": ["one", "two"]}
    assert body_of([field], ["one"], "") == {"inputs": "one"}


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_forms_begin_with_parameters_that_the_task_has(task: Task) -> None:
    """Also where a person sees more than the example asks for."""
    task.parameters.model_validate({**task.example.body.get("parameters", {}), **parameters_of(task)})


def test_what_is_missing_or_wrong_is_a_sentence() -> None:
    """It names the field."""
    fields = fields_of(TASKS["zero-shot-classification"])
    with pytest.raises(ValueError, match=r"Labels: there is nothing there yet\."):
        body_of(fields, ["a text", "  "], "")
    with pytest.raises(ValueError, match="Parameters: this is not JSON"):
        body_of(fields, ["a text", "a, b"], "{top_k")
    with pytest.raises(ValueError, match="Parameters: write an object"):
        body_of(fields, ["a text", "a, b"], "[1]")


def test_form_says_more_than_the_parameters() -> None:
    """Labels of the form and of the parameters would contradict each other."""
    fields = fields_of(TASKS["zero-shot-classification"])
    body = body_of(fields, ["text", "a, b"], '{"candidate_labels": ["c"], "multi_label": true}')
    assert body == {"inputs": "text", "parameters": {"candidate_labels": ["a", "b"], "multi_label": True}}
