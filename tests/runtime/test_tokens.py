"""tokenize and decode against the tokenizer itself, for a model of any task."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from app.errors import InvalidInput
from app.runtime.base import LoadedModel
from tests.models import build
from tests.runtime.compute import answer, load

TEXT = "Ada's cat sleeps: été"


@pytest.fixture(scope="module")
def model(models_dir: Path) -> LoadedModel:
    return load(build("token-classification", models_dir), "token-classification")


def test_tokens_have_their_ids_and_places(model: LoadedModel, models_dir: Path) -> None:
    """Places are characters; special tokens have none."""
    tokenizer = AutoTokenizer.from_pretrained(build("token-classification", models_dir))
    tokens = answer(model.stages("tokenize"), TEXT)
    assert [token["id"] for token in tokens] == tokenizer(TEXT)["input_ids"]
    assert tokens[0] == {"id": tokenizer.cls_token_id, "text": "[CLS]", "special": True, "start": None, "stop": None}
    for token in tokens[1:-1]:
        assert token["text"] == TEXT[token["start"] : token["stop"]] and not token["special"]
    assert "".join(token["text"] for token in tokens[1:-1]) == TEXT.replace(" ", "")


def test_special_tokens_are_left_out_when_asked(model: LoadedModel) -> None:
    """add_special_tokens: false."""
    with_them = answer(model.stages("tokenize"), TEXT)
    assert answer(model.stages("tokenize"), TEXT, {"add_special_tokens": False}) == with_them[1:-1]


def test_unknown_token_of_the_text_has_its_place(model: LoadedModel) -> None:
    """A word that the vocabulary does not know is a special token, and stands in the text all the same."""
    (token,) = answer(model.stages("tokenize"), "☃", {"add_special_tokens": False})
    assert (token["text"], token["special"], token["start"], token["stop"]) == ("☃", True, 0, 1)


def test_slow_tokenizer_tells_no_places(models_dir: Path) -> None:
    """One that is written in Python does not know for which part of the text a token stands: null, not a guess."""
    folder = build("table-question-answering", models_dir)
    tokens = answer(load(folder, "table-question-answering").stages("tokenize"), "a cat")
    assert [token["text"] for token in tokens] == ["[CLS]", "a", "cat", "[SEP]"]
    assert all(token["start"] is None and token["stop"] is None for token in tokens)


def test_decode_is_the_way_back(model: LoadedModel) -> None:
    """Special tokens are left out unless asked for."""
    ids = [token["id"] for token in answer(model.stages("tokenize"), "a cat sleeps")]
    assert answer(model.stages("decode"), ids) == "a cat sleeps"
    assert answer(model.stages("decode"), ids, {"skip_special_tokens": False}) == "[CLS] a cat sleeps [SEP]"


def test_token_beyond_the_vocabulary_is_refused(model: LoadedModel) -> None:
    """Named, with the size of the vocabulary, instead of an index error or a silent nothing."""
    with pytest.raises(InvalidInput, match="no token 999999"):
        answer(model.stages("decode"), [1, 999999])
