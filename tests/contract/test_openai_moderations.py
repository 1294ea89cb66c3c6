"""OpenAI's moderations on a real server, by its SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.server import RunningServer

TEXTS = ["a good film", "a terrible boring story", "the match was won"]


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def scores_of(server: RunningServer, model: str) -> list[dict[str, float]]:
    answer = server.post("/v1/text-classification", {"inputs": TEXTS, "model": model}).json()
    return [{one["label"]: one["score"] for one in labels} for labels in answer]


def test_exclusive_labels(client: openai.OpenAI, server: RunningServer) -> None:
    """A model whose labels share one chance: the scores are those of text-classification."""
    answer = client.moderations.create(input=TEXTS, model="acme/reviews")
    assert answer.model == "acme/reviews" and answer.id.startswith("modr-")
    for result, scores in zip(answer.results, scores_of(server, "acme/reviews"), strict=True):
        assert result.category_scores.harassment == pytest.approx(scores["NEGATIVE"], abs=1e-5)
        assert result.category_scores.violence_graphic == 0 and not result.categories.violence_graphic
        assert result.flagged == result.categories.harassment == (scores["NEGATIVE"] >= 0.5)
        assert result.category_applied_input_types.harassment == ["text"]


def test_labels_with_chances_of_their_own(client: openai.OpenAI, server: RunningServer) -> None:
    """A sigmoid each: several may be flagged at once, and a category has the greatest of its labels' scores."""
    answer = client.moderations.create(input=TEXTS, model="omni-moderation-latest")
    every = scores_of(server, "harms")
    assert max(sum(one.values()) for one in every) > 1.01
    for result, scores in zip(answer.results, every, strict=True):
        assert result.category_scores.hate == pytest.approx(max(scores["NEGATIVE"], scores["NEUTRAL"]), abs=1e-5)
        assert result.category_scores.self_harm_intent == pytest.approx(scores["POSITIVE"], abs=1e-5)
        assert result.categories.hate == (result.category_scores.hate >= 0.9)
        assert result.categories.self_harm_intent == (result.category_scores.self_harm_intent >= 0.2)
        assert result.flagged == (result.categories.hate or result.categories.self_harm_intent)


def test_parts_are_one_input(client: openai.OpenAI, server: RunningServer) -> None:
    """As bad as the worst of them."""
    parts: list[Any] = [{"type": "text", "text": one} for one in TEXTS]
    (result,) = client.moderations.create(input=parts, model="acme/reviews").results
    worst = max(one["NEGATIVE"] for one in scores_of(server, "acme/reviews"))
    assert result.category_scores.harassment == pytest.approx(worst, abs=1e-5)


def test_image_and_long_text_are_refused(client: openai.OpenAI) -> None:
    """By name; a text that is too long is cut where that is asked for."""
    image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}}
    with pytest.raises(openai.BadRequestError) as raised:
        client.moderations.create(input=[image], model="acme/reviews")
    assert raised.value.param == "input[0]" and "images" in raised.value.message
    long = "a good film " * 300
    with pytest.raises(openai.BadRequestError) as raised:
        client.moderations.create(input=["a", long], model="acme/reviews")
    assert raised.value.param == "input[1]" and raised.value.code == "context_length_exceeded"
    assert client.moderations.create(input=long, model="acme/reviews", extra_body={"truncate": True}).results
    with pytest.raises(openai.NotFoundError):
        client.moderations.create(input="a", model="topics")
