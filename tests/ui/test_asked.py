"""Examples of model cards in the Hub's format, and links that open a form as it was."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from app.tasks.base import Task
from app.tasks.registry import TASKS
from app.ui.try_it.asked import Asked, asked_of, examples_of, link_of, path_in_folder
from app.ui.try_it.form import FILE_KINDS, body_of, fields_of, frame_of, values_of

FILES = {"samples/cat.png", "cat.png", "a.wav"}


def bodies(task: str, *widget: Any) -> list[Any]:
    one = TASKS[task]
    return [dict(found.body) for found in examples_of(one, {"widget": list(widget)}, fields_of(one), FILES)]


@pytest.mark.parametrize(
    ("task", "item", "body"),
    [
        ("token-classification", {"text": "Ada"}, {"inputs": "Ada", "parameters": {}}),
        (
            "question-answering",
            {"text": "Where?", "context": "In London."},
            {"inputs": {"question": "Where?", "context": "In London."}, "parameters": {}},
        ),
        (
            "table-question-answering",
            {"text": "How many?", "table": {"name": ["a", "b"], "stars": [1, 2]}},
            {"inputs": {"query": "How many?", "table": {"name": ["a", "b"], "stars": ["1", "2"]}}, "parameters": {}},
        ),
        (
            "sentence-similarity",
            {"source_sentence": "A", "sentences": ["B", "C"]},
            {"inputs": {"source_sentence": "A", "sentences": ["B", "C"]}, "parameters": {}},
        ),
        (
            "text-ranking",
            {"source_sentence": "A", "sentences": ["B", "C"]},
            {"inputs": {"query": "A", "texts": ["B", "C"]}, "parameters": {}},
        ),
        (
            "zero-shot-classification",
            {"text": "A", "candidate_labels": "red, blue", "multi_class": True},
            {"inputs": "A", "parameters": {"candidate_labels": ["red", "blue"]}},
        ),
        ("image-classification", {"src": "samples/cat.png"}, {"inputs": "samples/cat.png", "parameters": {}}),
        (
            "visual-question-answering",
            {"src": "cat.png", "text": "What?"},
            {"inputs": {"image": "cat.png", "question": "What?"}, "parameters": {}},
        ),
        (
            "text-generation",
            {"text": "Once", "parameters": {"temperature": 0.5, "unheard_of": 1}},
            {"inputs": "Once", "parameters": {"temperature": 0.5}},
        ),
    ],
)
def test_card_example_fills_the_form(task: str, item: dict[str, Any], body: dict[str, Any]) -> None:
    """In the words of the Hub's cards; parameters that the task does not have are left out."""
    assert bodies(task, item) == [body]


def test_examples_of_other_tasks_and_hosts_are_left_out() -> None:
    """A text is no picture, and nothing is loaded from the Hub."""
    elsewhere = {"src": "https://huggingface.co/datasets/mishig/sample_images/resolve/main/tiger.jpg"}
    assert bodies("image-classification", {"text": "Ada"}, elsewhere, {"src": "gone.png"}, None, "x", {"src": 3}) == []
    assert bodies("token-classification", {"src": "cat.png"}, {"text": ""}, {"text": 3}) == []


def test_file_at_the_hub_is_that_of_the_folder() -> None:
    """Where the folder has it; data sets and other hosts' paths are something else."""
    assert path_in_folder("https://huggingface.co/acme/cats/resolve/main/samples/cat.png", FILES) == "samples/cat.png"
    assert path_in_folder("https://huggingface.co/cats/blob/main/cat.png", FILES) == "cat.png"
    assert path_in_folder("./cat.png", FILES) == "cat.png"
    for address in (
        "https://huggingface.co/datasets/acme/cats/resolve/main/cat.png",
        "https://example.com/cat.png",
        "https://huggingface.co/acme/cats/resolve",
        "../cat.png",
        "/cat.png",
        "",
    ):
        assert path_in_folder(address, FILES) is None, address


def test_titles_and_outputs_are_the_cards() -> None:
    """A text that has no title is its own, shortened."""
    task = TASKS["text-classification"]
    widget = [
        {"text": "Good.", "example_title": "Praise", "output": [{"label": "POSITIVE", "score": 0.9}]},
        {"text": "word " * 40, "output": {"text": "so"}},
    ]
    first, second = examples_of(task, {"widget": widget}, fields_of(task), FILES)
    assert (first.title, first.output) == ("Praise", "POSITIVE 0.9")
    assert second.title.startswith("word word") and len(second.title) < 50 and second.output == "so"


def test_conversation_is_an_example() -> None:
    """Of a model that chats; messages that are none are left out."""
    task = TASKS["text-generation"]
    messages = [{"role": "user", "content": "Hello!"}, {"role": "robot", "content": "x"}, {"role": "user"}]
    (found,) = examples_of(task, {"widget": {"messages": messages}}, fields_of(task), FILES)
    assert found.messages == [{"role": "user", "content": "Hello!"}] and found.title == "Hello!"


@pytest.mark.parametrize("front", [{}, {"widget": None}, {"widget": "x"}, {"widget": [[1], {"text": ["a"]}]}])
def test_broken_front_matter_has_no_examples(front: dict[str, Any]) -> None:
    """People write it by hand."""
    task = TASKS["fill-mask"]
    assert examples_of(task, front, fields_of(task), FILES) == []


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_link_opens_the_form_as_it_was(task: Task) -> None:
    """Of every task; its files are left out."""
    fields = fields_of(task)
    body = {"parameters": {"top_k": 3}, **task.example.body}
    link = link_of("acme/a b", task.name, body, fields)
    assert link is not None and len(link) < 1000
    asked = asked_of(dict(parse_qsl(urlsplit(link).query)))
    assert (asked.model, asked.task) == ("acme/a b", task.name)
    expected = [
        None if field.kind in FILE_KINDS else value
        for field, value in zip(fields, values_of(fields, body), strict=True)
    ]
    assert values_of(fields, asked.body) == expected
    assert asked.body["parameters"] == body["parameters"]


@pytest.mark.parametrize("text", ['{"a": 1}', '"quoted"', "[MASK] is here", "& + ? # é", '{"a":'])
def test_text_that_looks_like_json_stays_a_text(text: str) -> None:
    """What was written is what is read."""
    link = link_of("m", "fill-mask", {"inputs": text}, fields_of(TASKS["fill-mask"]))
    assert link is not None
    assert asked_of(dict(parse_qsl(urlsplit(link).query))).body == {"inputs": text}


def test_long_texts_have_no_link() -> None:
    """Such an address would not arrive everywhere."""
    assert link_of("m", "fill-mask", {"inputs": "word " * 2000}, fields_of(TASKS["fill-mask"])) is None


def test_links_that_cannot_be_read_open_an_empty_form() -> None:
    """Whoever wrote them."""
    assert asked_of({}) == Asked()
    asked = asked_of({"id": "m", "parameters": "[1]", "example": "-1", "inputs": "[" * 100_000})
    assert asked.example is None and "parameters" not in asked.body
    assert asked_of({"example": "²"}).example is None and asked_of({"example": "12"}).example == 12


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_values_of_a_body_make_the_body(task: Task) -> None:
    """What fills the form, sent as it is, is what it was filled with."""
    fields = fields_of(task)
    values = values_of(fields, task.example.body)
    read = [
        (list(value), [list(row) for row in zip(*value.values(), strict=True)]) if field.kind == "table" else value
        for field, value in zip(fields, values, strict=True)
    ]
    body = body_of(fields, read, "", frame=frame_of(task))
    assert body["inputs"] == task.example.body["inputs"]
