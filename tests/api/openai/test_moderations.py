"""/v1/moderations before a scripted fleet: which entry answers, and what its labels become."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from app.catalog import ModerationSpec
from app.declaration.form import Category
from tests.api.conftest import LiveServer

PATH = "/v1/moderations"
MEANS = ModerationSpec(labels={"NEGATIVE": ("hate", "harassment")}, thresholds={"hate": 0.1, "harassment": 0.2})


@pytest.fixture(autouse=True)
def moderating(server: LiveServer) -> None:
    """`reviews` moderates: its answers are POSITIVE 0.9, NEGATIVE 0.1."""
    moderate(server, MEANS)


def moderate(server: LiveServer, moderation: ModerationSpec | None) -> None:
    server.fleet.specs["reviews"] = msgspec.structs.replace(server.fleet.specs["reviews"], moderation=moderation)


def error_of(server: LiveServer, body: Any, path: str = PATH) -> tuple[int, str | None, str]:
    answer = server.post(path, body)
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["message"]


def test_labels_become_categories(server: LiveServer) -> None:
    """Each from its own threshold on; of all that OpenAI knows, in its order, and what no label means applies to
    nothing."""
    answer = server.post(PATH, {"input": "a"}, headers={"X-Request-Id": "r-1"}).json()
    (result,) = answer.pop("results")
    assert answer == {"id": "modr-r-1", "model": "reviews"}
    for name in ("categories", "category_scores", "category_applied_input_types"):
        assert tuple(result[name]) == get_args(Category)
    assert result["flagged"] is True
    assert [name for name, is_flagged in result["categories"].items() if is_flagged] == ["hate"]
    assert {name: score for name, score in result["category_scores"].items() if score} == {
        "harassment": 0.1,
        "hate": 0.1,
    }
    assert result["category_applied_input_types"]["hate"] == ["text"]
    assert result["category_applied_input_types"]["violence"] == []


def test_greatest_score_of_several_labels_counts(server: LiveServer) -> None:
    """Whatever their order."""
    for labels in (("POSITIVE", "NEGATIVE"), ("NEGATIVE", "POSITIVE")):
        moderate(server, ModerationSpec(labels={one: ("hate",) for one in labels}, thresholds={"hate": 0.95}))
        (result,) = server.post(PATH, {"input": "a"}).json()["results"]
        assert result["category_scores"]["hate"] == 0.9 and not result["flagged"]


@pytest.mark.parametrize(
    ("given", "texts", "num_results"),
    [
        ("a", ["a"], 1),
        (["a", "b"], ["a", "b"], 2),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], ["a", "b"], 1),
    ],
)
def test_every_form_of_input(server: LiveServer, given: Any, texts: list[str], num_results: int) -> None:
    """A result for each text of a list, one for the parts of one input."""
    assert len(server.post(PATH, {"input": given}).json()["results"]) == num_results
    assert server.fleet.jobs[-1].inputs == texts


def test_all_labels_are_asked_for(server: LiveServer) -> None:
    """Whatever the entry's own defaults: a label that is cut off could not be judged."""
    spec = msgspec.structs.replace(server.fleet.specs["reviews"], parameters={"top_k": 1, "truncate": True})
    server.fleet.specs["reviews"] = spec
    assert server.post(PATH, {"input": "a", "keep_alive": "1h"}).status_code == 200
    assert server.fleet.jobs[-1].parameters == {"truncate": True} and server.fleet.jobs[-1].keep_alive_s == 3600
    assert server.post(PATH, {"input": "a", "truncate": False}).status_code == 200
    assert server.fleet.jobs[-1].parameters == {"truncate": False}


@pytest.mark.parametrize("path", [PATH, "/models/rev/v1/moderations", f"{PATH}?model=rev"])
def test_ways_to_name_the_model(server: LiveServer, path: str) -> None:
    """None needed, below its URL, in the query; and in the body, by an alias, which comes back."""
    assert server.post(path, {"input": "a"}).json()["model"] == "reviews"
    assert server.post(path, {"input": "a", "model": "rev"}).json()["model"] == "rev"
    assert {job.model_id for job in server.fleet.jobs} == {"reviews"}


def test_entry_that_does_not_moderate_is_404(server: LiveServer) -> None:
    """And so is one that is not there; two at once are a mistake."""
    status, param, text = error_of(server, {"input": "a", "model": "acme/labels/large"})
    assert (status, param) == (404, "model") and "reviews" in text
    assert error_of(server, {"input": "a", "model": "omni-moderation-latest"})[:2] == (404, "model")
    assert error_of(server, {"input": "a", "model": "mask"}, "/models/rev/v1/moderations")[:2] == (400, "model")


def test_without_moderations_it_is_501(server: LiveServer) -> None:
    """With the key that is missing, and no reason to try again."""
    moderate(server, None)
    answer = server.post(PATH, {"input": "a", "model": "omni-moderation-latest"})
    assert answer.status_code == 501 and "moderations:" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


def test_label_that_the_model_lacks_is_an_error(server: LiveServer) -> None:
    """Where its files were not there to be checked: never a score of 0."""
    moderate(server, ModerationSpec(labels={"TOXIC": ("hate",)}, thresholds={"hate": 0.5}))
    status, _, text = error_of(server, {"input": "a"})
    assert status == 503 and '"TOXIC"' in text and "POSITIVE, NEGATIVE" in text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": 3}, "input"),
        ({"input": [{"type": "text", "text": 3}]}, "input[0].text"),
        ({"input": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]}, "input[1]"),
        ({"input": ["a", {"type": "text", "text": "a"}]}, "input"),
        ({"input": [{"type": "sound"}]}, "input[0]"),
        ({"input": "a", "threshold": 0.5}, "threshold"),
    ],
)
def test_bad_input_is_named(server: LiveServer, body: Any, param: str) -> None:
    """400, before anything is computed."""
    status, named, text = error_of(server, body)
    assert status == 400 and named is not None and named.startswith(param), text
    assert not server.fleet.jobs
