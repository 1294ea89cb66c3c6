"""Bodies of tasks: every variant that clients send is understood, everything else is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import InputTooLarge, InvalidInput, MalformedBody
from app.tasks.registry import ALIASES, TASKS, find_task
from app.tasks.requests import RequestParser
from app.tasks.text import MAX_TEXT_CHARS


def parse(task: str, body: Any, **kwargs: Any) -> Any:
    return RequestParser(find_task(task)).parse(body, **kwargs)


@pytest.mark.parametrize("name", TASKS)
def test_example_is_accepted_and_counts_its_permits(name: str) -> None:
    """The body that `/docs` shows is one that the task takes."""
    assert parse(name, TASKS[name].example.body).num_items >= 1


def test_alias_finds_the_task() -> None:
    """Hugging Face's short names lead to the tasks they stand for."""
    assert {alias: find_task(alias).name for alias in ALIASES} == {
        "sentiment-analysis": "text-classification",
        "ner": "token-classification",
        "vqa": "visual-question-answering",
        "text-to-speech": "text-to-audio",
    }


@pytest.mark.parametrize(
    ("task", "body", "param"),
    [
        ("text-classification", {}, "inputs"),
        ("text-classification", {"inputs": None}, "inputs"),
        ("text-classification", {"inputs": ""}, "inputs"),
        ("text-classification", {"inputs": []}, "inputs"),
        ("text-classification", {"inputs": 3}, "inputs"),
        ("text-classification", {"inputs": ["a", 3]}, "inputs"),
        ("text-classification", {"inputs": ["a", {"text": "b", "text_pair": "c"}]}, "inputs"),
        ("text-classification", {"inputs": ["a", ""]}, "inputs[1]"),
        ("text-classification", {"inputs": {"text_pair": "a"}}, "inputs.text"),
        ("text-classification", {"inputs": {"text": "a", "text_pair": "b", "c": 1}}, "inputs.c"),
        ("text-classification", {"inputs": "a", "paramters": {}}, "paramters"),
        ("text-classification", {"inputs": "a", "parameters": []}, "parameters"),
        ("text-classification", {"inputs": "a", "parameters": {"top_k": -1}}, "parameters.top_k"),
        ("text-classification", {"inputs": "a", "parameters": {"top_k": 1.5}}, "parameters.top_k"),
        ("text-classification", {"inputs": "a", "parameters": {"top_k": True}}, "parameters.top_k"),
        ("text-classification", {"inputs": "a", "parameters": {"topk": 1}}, "parameters.topk"),
        ("text-classification", {"inputs": "a", "parameters": {"function_to_apply": "relu"}}, None),
        ("text-classification", {"inputs": "a", "model": 7}, "model"),
        ("text-classification", {"inputs": "a", "options": {"cache": True}}, "options.cache"),
        ("text-classification", {"inputs": "a", "options": {"wait_for_model": 1}}, "options.wait_for_model"),
        ("feature-extraction", {"inputs": "a", "dimensions": 0}, "parameters.dimensions"),
        ("feature-extraction", {"inputs": "a", "top_k": 1}, "top_k"),
        ("sentence-similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, "inputs.sentences"),
        ("sentence-similarity", {"inputs": {"sentences": ["a"]}}, "inputs.source_sentence"),
        ("zero-shot-classification", {"inputs": "a"}, "parameters.candidate_labels"),
        (
            "zero-shot-classification",
            {"inputs": "a", "parameters": {"candidate_labels": ["x", 1]}},
            "parameters.candidate_labels[1]",
        ),
        (
            "zero-shot-classification",
            {"inputs": "a", "parameters": {"candidate_labels": "x", "hypothesis_template": "It is {0}."}},
            "parameters.hypothesis_template",
        ),
        ("token-classification", {"inputs": "a", "parameters": {"stride": -1}}, "parameters.stride"),
        ("fill-mask", {"inputs": "a", "parameters": {"targets": []}}, None),
    ],
)
def test_wrong_body_names_its_parameter(task: str, body: dict[str, Any], param: str | None) -> None:
    """The sentence and `param` say which field is wrong."""
    with pytest.raises(InvalidInput) as caught:
        parse(task, body)
    assert caught.value.param is not None
    if param is not None:
        assert caught.value.param == param
    assert caught.value.param.rpartition(".")[2] in caught.value.message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_number_that_is_none_is_refused(value: float) -> None:
    """NaN and infinity are not numbers of any parameter."""
    with pytest.raises(InvalidInput):
        parse("text-classification", {"inputs": "a", "parameters": {"top_k": value}})


@pytest.mark.parametrize("body", [[], "text", 3, None])
def test_body_must_be_an_object(body: Any) -> None:
    """Anything but a JSON object is malformed."""
    with pytest.raises(MalformedBody):
        parse("fill-mask", body)


def test_megabytes_of_text_are_refused_before_tokenizing() -> None:
    """A text over the limit of characters is an error that says both numbers."""
    with pytest.raises(InputTooLarge, match=f"{MAX_TEXT_CHARS + 1}.*{MAX_TEXT_CHARS}"):
        parse("feature-extraction", {"inputs": "a" * (MAX_TEXT_CHARS + 1)})


@pytest.mark.parametrize(
    ("given", "meant"), [(True, True), (False, False), ("only_first", True), ("do_not_truncate", False)]
)
def test_truncation_is_another_spelling_of_truncate(given: Any, meant: bool) -> None:
    """What the pipelines and clients call `truncation` is honoured."""
    assert parse("fill-mask", {"inputs": "a", "parameters": {"truncation": given}}).parameters == {"truncate": meant}


def test_parameters_of_embeddings_may_stand_at_the_root() -> None:
    """`InferenceClient.feature_extraction` sends them there."""
    parsed = parse("feature-extraction", {"inputs": ["a"], "normalize": True, "truncation_direction": "Left"})
    assert parsed.parameters == {"normalize": True, "truncation_direction": "Left"}
    assert parsed.is_list


def test_tokens_of_one_text_are_one_input() -> None:
    """A list of these is several."""
    assert parse("feature-extraction", {"inputs": [5, 6]}).inputs == [[5, 6]]
    assert parse("feature-extraction", {"inputs": [[5, 6], [7]]}).inputs == [[5, 6], [7]]


def test_words_of_one_text_are_one_input() -> None:
    """With `is_split_into_words` a flat list is one input, a list of lists is several."""
    parameters = {"is_split_into_words": True}
    assert parse("ner", {"inputs": ["Ada", "sang"], "parameters": parameters}).inputs == [["Ada", "sang"]]
    assert len(parse("ner", {"inputs": [["Ada"], ["sang"]], "parameters": parameters}).inputs) == 2


def test_permits_count_what_is_computed() -> None:
    """Each label of zero-shot and each sentence of sentence-similarity is a row of a batch, and a permit."""
    labels = {"candidate_labels": "a, b, c"}
    assert parse("zero-shot-classification", {"inputs": ["x", "y"], "parameters": labels}).num_items == 6
    sentences = {"source_sentence": "a", "sentences": ["b", "c"]}
    assert parse("sentence-similarity", {"inputs": sentences}).num_items == 3


def test_defaults_of_the_model_yield_to_the_request() -> None:
    """`parameters:` of models.yaml fill in what the request leaves out, and what the task knows."""
    body = {"inputs": "a", "parameters": {"top_k": 1}}
    defaults = {"top_k": 3, "truncate": True, "aggregation_strategy": "max"}
    assert parse("text-classification", body, defaults=defaults).parameters == {"top_k": 1, "truncate": True}


def test_more_inputs_than_a_request_may_have_are_not_looked_at() -> None:
    """The limit is exact; what the inputs are does not matter beyond it."""
    parser = RequestParser(find_task("text-classification"), max_inputs=3)
    assert parser.parse({"inputs": ["a"] * 3}).num_items == 3
    with pytest.raises(InputTooLarge, match="4 entries; this server takes at most 3"):
        parser.parse({"inputs": ["a", "b", "c", ""]})
