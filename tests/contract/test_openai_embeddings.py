"""OpenAI's embeddings on a real server, by its SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.server import RunningServer

TEXTS = ["a good film", "the match was won"]


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_vectors_are_those_of_feature_extraction(client: openai.OpenAI, server: RunningServer) -> None:
    """As base64, which the SDK asks for by itself, and as floats; the tokens are counted."""
    with server.client() as http:
        expected = http.post("/v1/feature-extraction", json={"inputs": TEXTS, "model": "vectors"}).json()
    for more in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model="vectors", input=TEXTS, **more)  # type: ignore[arg-type]
        assert [one.index for one in answer.data] == [0, 1] and answer.model == "vectors"
        for one, vector in zip(answer.data, expected, strict=True):
            assert one.embedding == pytest.approx(vector, abs=1e-6)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_tokens_stand_for_their_text(client: openai.OpenAI, server: RunningServer) -> None:
    """One array or several, counted as they are sent: none is added."""
    tokens = [[one["id"] for one in text] for text in server.post("/tokenize?model=vectors", {"inputs": TEXTS}).json()]
    texts = client.embeddings.create(model="vectors", input=TEXTS)
    answer = client.embeddings.create(model="vectors", input=tokens)
    for one, other in zip(answer.data, texts.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert answer.usage == texts.usage and answer.usage.prompt_tokens == sum(map(len, tokens))
    alone = client.embeddings.create(model="vectors", input=tokens[1])
    assert alone.data[0].embedding == pytest.approx(texts.data[1].embedding, abs=1e-6)
    assert alone.usage.total_tokens == len(tokens[1])
    bare = client.embeddings.create(model="vectors", input=tokens[1][1:-1])
    assert bare.usage.total_tokens == len(tokens[1]) - 2
    assert bare.data[0].embedding != pytest.approx(texts.data[1].embedding, abs=1e-3)


def test_dimensions_are_cut_and_scaled(client: openai.OpenAI) -> None:
    """To length 1."""
    (one,) = client.embeddings.create(model="vectors", input="a good film", dimensions=8).data
    assert len(one.embedding) == 8 and sum(value**2 for value in one.embedding) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [1, 10**6]}, "input"),
        ({"input": [[1], [2, 10**6]]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": [-1]}, "input"),
        ({"input": [1, "a"]}, "input"),
        ({"input": ["a", [1]]}, "input"),
        ({"input": [[5] * 33], "extra_body": {"truncate": False}}, "input[0]"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"dimensions": 100000}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"extra_body": {"colour": "red"}}, "colour"),
        ({"model": "tokens"}, "model"),
    ],
)
def test_bad_input_is_named(client: openai.OpenAI, given: dict[str, Any], param: str) -> None:
    """400 in OpenAI's shape."""
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(**{"model": "vectors", "input": "a", **given})
    assert raised.value.param is not None and raised.value.param.startswith(param), raised.value


def test_below_the_models_url(server: RunningServer) -> None:
    """And errors there have OpenAI's shape too."""
    with server.client() as http:
        answer = http.post("/models/vectors/v1/embeddings", json={"input": "a"}).json()
        assert answer["object"] == "list" and answer["data"][0]["object"] == "embedding"
        assert http.post("/models/vectors/v1/embeddings", json={}).json()["error"]["param"] == "input"
