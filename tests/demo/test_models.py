"""The demo's models do what their cards say, on sentences that they were not trained on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForQuestionAnswering, AutoTokenizer, pipeline

from demo import chat, entities, questions, reviews, shapes, small_talk, topics, words
from demo.build_models import FOLDER, build, fingerprint
from demo.recipes import RECIPES

REPOSITORY = Path(__file__).resolve().parent.parent.parent


pytestmark = pytest.mark.timeout(600)  # for the training, on a machine that is busy with other things


@pytest.fixture(scope="module")
def folder() -> Path:
    """All models. They are trained where nobody did yet, by a process that takes its own helpers away with it."""
    subprocess.run([sys.executable, "-m", "demo.build_models"], cwd=REPOSITORY, check=True)
    return FOLDER


def test_reviews_tells_good_from_bad(folder: Path) -> None:
    """As many as its card says of the reviews that it never saw."""
    classify = pipeline("text-classification", model=str(folder / "reviews"))
    given = [one["label"] == "POSITIVE" for one in classify([text for text, _ in reviews.HELD_OUT])]
    assert _num_right(given, [bool(label) for _, label in reviews.HELD_OUT]) >= RECIPES["reviews"].at_least


def test_entities_finds_names(folder: Path) -> None:
    """All names and nothing else, in as many sentences as its card says."""
    tag = pipeline("token-classification", model=str(folder / "entities"), aggregation_strategy="simple")
    given = [[(name["word"], name["entity_group"]) for name in tag(text)] for text, _ in entities.HELD_OUT]
    assert _num_right(given, [names for _, names in entities.HELD_OUT]) >= RECIPES["entities"].at_least


def test_topics_chooses_the_label(folder: Path) -> None:
    """The right label of three, a third of the times one that training never had."""
    classify = pipeline("zero-shot-classification", model=str(folder / "topics"))
    given = [classify(text, labels)["labels"][0] for text, labels, _ in topics.HELD_OUT]
    assert _num_right(given, [label for _, _, label in topics.HELD_OUT]) >= RECIPES["topics"].at_least


def test_questions_finds_the_answer(folder: Path) -> None:
    """The right words of a text that it never saw, articles aside."""
    model = AutoModelForQuestionAnswering.from_pretrained(folder / "questions")
    tokenizer = AutoTokenizer.from_pretrained(folder / "questions")
    given = [_answer(model, tokenizer, question, context) for question, context, _ in questions.HELD_OUT]
    assert (
        _num_right(given, [answer.removeprefix("the ") for _, _, answer in questions.HELD_OUT])
        >= RECIPES["questions"].at_least
    )


def test_words_fills_the_blank(folder: Path) -> None:
    """A sensible word comes first."""
    fill = pipeline("fill-mask", model=str(folder / "words"))
    given = [fill(text)[0]["token_str"] in sensible for text, sensible in words.HELD_OUT]
    assert sum(given) >= RECIPES["words"].at_least, given


def test_shapes_are_told_apart(folder: Path) -> None:
    """Circles, squares, triangles and stars that it never saw."""
    classify = pipeline("image-classification", model=str(folder / "shapes"))
    drawn = [shapes.picture(seed) for seed in shapes.HELD_OUT_SEEDS]
    given = [classify(image, top_k=1)[0]["label"] for image, _ in drawn]
    assert _num_right(given, [shapes.NAMES[kind] for _, kind in drawn]) >= RECIPES["shapes"].at_least
    assert not set(shapes.HELD_OUT_SEEDS) & set(range(shapes.NUM_PICTURES))


def test_chat_answers_what_it_learned(folder: Path) -> None:
    """As its card says, to wordings that it never saw."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "chat")
    model = AutoModelForCausalLM.from_pretrained(folder / "chat")
    given = []
    for question, _ in small_talk.HELD_OUT:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        tokens = model.generate(**prompt, max_new_tokens=80)[0, prompt["input_ids"].shape[1] :]
        given.append(tokenizer.decode(tokens, skip_special_tokens=True))
    assert _num_right(given, [answer for _, answer in small_talk.HELD_OUT]) >= RECIPES["chat"].at_least


def test_held_out_sentences_were_not_trained_on() -> None:
    """The counts above are about sentences that no training set has."""
    trained = {text for text, _ in reviews.training_reviews()}
    trained |= {" ".join(tagged) for tagged, _ in entities.training_sentences(600)}
    trained |= {premise for premise, _, _ in topics.training_pairs()}
    trained |= {" ".join(sentence) for sentence, _ in words.training_blanks()}
    held_out = [text for text, _ in reviews.HELD_OUT] + [text for text, _, _ in topics.HELD_OUT]
    held_out += [" ".join(re.findall(r"\w+|[^\w\s]", text)) for text, _ in entities.HELD_OUT]
    assert not trained & set(held_out)
    talked = {
        turn["content"]
        for messages, _ in small_talk.training_conversations(chat.ROUNDS)
        for turn in messages
        if turn["role"] == "user"
    }
    assert not talked & {question for question, _ in small_talk.HELD_OUT}
    asked = {(one.question, one.context) for one in questions.training_questions(950)}
    assert not asked & {(question, context) for question, context, _ in questions.HELD_OUT}


def test_every_model_has_an_honest_card(folder: Path) -> None:
    """Each trained folder says its task and licence to machines, and what it was trained on to people."""
    catalogue = yaml.safe_load((REPOSITORY / "demo" / "models.yaml").read_text())
    for entry in catalogue["models"]:
        name = Path(entry["model"]).name
        card = (folder / name / "README.md").read_text()
        front = yaml.safe_load(card.split("---")[1])
        assert front["license"] == "apache-2.0"
        if name != "all-MiniLM-L6-v2":
            assert front["pipeline_tag"] == entry["task"]
            assert "that the project" in card


def test_models_are_built_once(folder: Path) -> None:
    """A second call finds the stamp of the same sources and trains nothing."""
    before = (folder / "built-from").stat().st_mtime_ns
    assert build() == folder
    assert (folder / "built-from").stat().st_mtime_ns == before
    assert (folder / "built-from").read_text() == fingerprint()


def _num_right(given: list[Any], expected: list[Any]) -> int:
    return sum(one == other for one, other in zip(given, expected, strict=True))


def _answer(model: Any, tokenizer: Any, question: str, context: str) -> str:
    """The likeliest span of at most 15 tokens, in lower case and without its article."""
    encoding = tokenizer(question, context, return_tensors="pt")
    with torch.inference_mode():
        output = model(**encoding)
    in_context = torch.tensor([sequence == 1 for sequence in encoding.sequence_ids(0)])
    start, end = (
        logits[0].masked_fill(~in_context, -1e9).softmax(0) for logits in (output.start_logits, output.end_logits)
    )
    first, last = divmod(int((start[:, None] * end).triu().tril(15).argmax()), len(start))
    text = context[encoding.token_to_chars(first).start : encoding.token_to_chars(last).end]
    return text.lower().removeprefix("the ")
