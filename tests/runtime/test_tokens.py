"""tokenize and decode against the tokenizer itself, for a model of any task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from app.errors import InvalidInput
from app.runtime.base import LoadedModel
from app.tasks.samples import PNG
from tests import tiny
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


def test_tokens_by_their_names(model: LoadedModel) -> None:
    """As the vocabulary has them, with the same ids."""
    plain = answer(model.stages("tokenize"), "sleeping cat")
    named = answer(model.stages("tokenize"), "sleeping cat", {"names": True})
    assert [token["id"] for token in named] == [token["id"] for token in plain]
    assert [token["text"] for token in named][:2] == ["[CLS]", "s"] and "##ing" in [token["text"] for token in named]


CHAT = [{"role": "user", "content": "a good film"}]


@pytest.mark.parametrize(
    "given", [{}, {"add_generation_prompt": False}, {"add_special_tokens": True}, {"continue_final_message": True}]
)
def test_chat_is_what_the_template_makes_of_it(tiny_dir: Path, given: dict[str, Any]) -> None:
    """With the special tokens that the template writes, and those of a text only if they are asked for."""
    folder = tiny.build("chatml", tiny_dir)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = answer(load(folder, "text-generation").stages("tokenize"), {"messages": CHAT, **given})
    options = {"add_generation_prompt": "continue_final_message" not in given, **given}
    has_special = options.pop("add_special_tokens", False)
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, **options)
    assert [token["id"] for token in tokens] == tokenizer(text, add_special_tokens=has_special)["input_ids"]
    assert text[tokens[0]["start"] : tokens[0]["stop"]] == "<|im_start|>"


def test_model_without_a_template_reads_no_chat(tiny_dir: Path) -> None:
    """And one that sees reads a chat with its picture, through its processor."""
    with pytest.raises(InvalidInput, match="no chat template"):
        answer(load(tiny.build("gpt2", tiny_dir), "text-generation").stages("tokenize"), {"messages": CHAT})
    name = next(name for name, task in tiny.TASK_OF.items() if task == "image-text-to-text")
    stages = load(tiny.build(name, tiny_dir), "image-text-to-text").stages("tokenize")
    parts = [{"type": "image", "image": PNG}, {"type": "text", "text": "a good film"}]
    with_picture = answer(stages, {"messages": [{"role": "user", "content": parts}]})
    assert len(with_picture) > len(answer(stages, {"messages": CHAT})) > 0
    assert all(token["start"] is None for token in with_picture)


def test_decode_is_the_way_back(model: LoadedModel) -> None:
    """Special tokens are left out unless asked for."""
    ids = [token["id"] for token in answer(model.stages("tokenize"), "a cat sleeps")]
    assert answer(model.stages("decode"), ids) == "a cat sleeps"
    assert answer(model.stages("decode"), ids, {"skip_special_tokens": False}) == "[CLS] a cat sleeps [SEP]"


def test_token_beyond_the_vocabulary_is_refused(model: LoadedModel) -> None:
    """Named, with the size of the vocabulary, instead of an index error or a silent nothing."""
    with pytest.raises(InvalidInput, match="no token 999999"):
        answer(model.stages("decode"), [1, 999999])
