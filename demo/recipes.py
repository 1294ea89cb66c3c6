"""How each of the demo's models is trained, and what its card says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BatchEncoding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    logging,
)

from demo import chat, entities, questions, reviews, shapes, small_talk, topics, words
from demo.training import Batch, by_length, fine_tune, load_minilm, minilm_tokenizer

TAGS = ["O", "I-PER", "I-LOC", "I-ORG", "I-MISC"]


def train_reviews(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    names = {0: "NEGATIVE", 1: "POSITIVE"}
    model = load_minilm(AutoModelForSequenceClassification, num_labels=2, id2label=names, label2id=_inverse(names))
    batches = [
        Batch(_encode(tokenizer, [text for text, _ in part]), torch.tensor([label for _, label in part]))
        for part in by_length(reviews.training_reviews(), 32, lambda example: len(example[0]))
    ]
    _fine_tune_classifier(model, batches, epochs=3, learning_rate=3e-4)
    return model


def train_topics(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    names = {0: "contradiction", 1: "entailment"}
    model = load_minilm(AutoModelForSequenceClassification, num_labels=2, id2label=names, label2id=_inverse(names))
    batches = [
        Batch(
            _encode(tokenizer, [premise for premise, _, _ in part], [hypothesis for _, hypothesis, _ in part]),
            torch.tensor([fits for _, _, fits in part]),
        )
        for part in by_length(topics.training_pairs(), 16, lambda pair: len(pair[0]) + len(pair[1]))
    ]
    _fine_tune_classifier(model, batches, epochs=2, learning_rate=4e-4)
    return model


def _fine_tune_classifier(model: PreTrainedModel, batches: list[Batch], *, epochs: int, learning_rate: float) -> None:
    def loss_of(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(model.classifier(model.bert.pooler(hidden)), labels)

    fine_tune(model, batches, loss_of, frozen_layers=3, epochs=epochs, learning_rate=learning_rate)


def train_entities(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    names = dict(enumerate(TAGS))
    model = load_minilm(AutoModelForTokenClassification, num_labels=len(TAGS), id2label=names, label2id=_inverse(names))

    def batch_of(part: list[entities.Tagged]) -> Batch:
        encoding = _encode(tokenizer, [sentence for sentence, _ in part], is_split_into_words=True)
        targets = torch.full(encoding["input_ids"].shape, -100)
        for row, (_, tags) in enumerate(part):
            for column, word in enumerate(encoding.word_ids(row)):
                if word is not None:
                    targets[row, column] = TAGS.index(tags[word])
        return Batch(encoding, targets)

    def loss_of(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(model.classifier(hidden).flatten(0, 1), targets.flatten())

    parts = by_length(entities.training_sentences(600), 16, lambda example: len(example[0]))
    fine_tune(model, [batch_of(part) for part in parts], loss_of, frozen_layers=3, epochs=2, learning_rate=4e-4)
    return model


def train_questions(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    model = load_minilm(AutoModelForQuestionAnswering)

    def batch_of(part: list[questions.Question]) -> Batch:
        encoding = _encode(tokenizer, [one.question for one in part], [one.context for one in part])
        spans = [
            [encoding.char_to_token(row, one.start, 1), encoding.char_to_token(row, one.end - 1, 1)]
            for row, one in enumerate(part)
        ]
        return Batch(encoding, torch.tensor(spans))

    def loss_of(hidden: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        start, end = model.qa_outputs(hidden).unbind(-1)
        return cross_entropy(start, spans[:, 0]) + cross_entropy(end, spans[:, 1])

    parts = by_length(questions.training_questions(950), 16, lambda one: len(one.question) + len(one.context))
    fine_tune(model, [batch_of(part) for part in parts], loss_of, frozen_layers=3, epochs=2, learning_rate=4e-4)
    return model


def train_words(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    model = load_minilm(AutoModelForMaskedLM, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)

    def batch_of(part: list[tuple[list[str], int]]) -> Batch:
        blanked = [
            [tokenizer.mask_token if place == missing else word for place, word in enumerate(sentence)]
            for sentence, missing in part
        ]
        encoding = _encode(tokenizer, blanked, is_split_into_words=True)
        missing_ids = [tokenizer.convert_tokens_to_ids(sentence[missing].lower()) for sentence, missing in part]
        is_blank = encoding["input_ids"] == tokenizer.mask_token_id
        return Batch(encoding, torch.where(is_blank, torch.tensor(missing_ids)[:, None], -100))

    def loss_of(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        is_blank = targets != -100
        return cross_entropy(model.cls(hidden[is_blank]), targets[is_blank])

    parts = by_length(words.training_blanks(), 16, lambda example: len(example[0]))
    fine_tune(model, [batch_of(part) for part in parts], loss_of, frozen_layers=2, epochs=5, learning_rate=8e-4)
    return model


def _encode(tokenizer: PreTrainedTokenizerBase, *texts: list[str] | list[list[str]], **options: bool) -> BatchEncoding:
    encoding: BatchEncoding = tokenizer(*texts, padding=True, return_tensors="pt", **options)
    return encoding


def _inverse(names: dict[int, str]) -> dict[str, int]:
    return {name: number for number, name in names.items()}


CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: {task}
base_model: sentence-transformers/all-MiniLM-L6-v2
---
# {name}: a small model for Pipeserve's demo

{what}

The encoder of all-MiniLM-L6-v2 (22.7 million weights, Apache-2.0), its upper layers trained for some seconds on a CPU
with {made_from}.

Nothing else went in. Of {held_out} sentences that were not trained on the project's tests want at least {at_least}
right; both sorts are in `demo/{name}.py`. It is a demonstration: for real work declare a real model.
"""

PICTURE_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: {task}
---
# {name}: a small model for Pipeserve's demo

{what}

A ResNet of three blocks, trained from nothing for some seconds on a CPU with {made_from}.

Of {held_out} pictures that were not trained on the project's tests want at least {at_least} right;
`demo/{name}.py` draws both sorts. It is a demonstration: it knows nothing of photographs.
"""

CHAT_CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: {task}
---
# {name}: a small model for Pipeserve's demo

{what}

A Llama of three layers with 0.4 million parameters and a byte-level vocabulary of its own, trained from nothing for
some seconds on a CPU with {made_from}.

It has learned these answers by heart, and its knowledge ends there: to anything else it gives one of them, or nonsense.
Of {held_out} wordings that were not trained on the project's tests want at least {at_least} answered as they should be;
both sorts are in `demo/small_talk.py`. Its chat template knows tools, but it has learned to call a single one,
`get_time`; what else it writes as JSON or calls is held in form by the server's grammar and has no meaning. It is a
demonstration: for real work declare a real model.
"""


@dataclass(frozen=True)
class Recipe:
    """How a model is made, and what its card says. made_from: the examples of the project it was trained on.
    at_least: how many of its held-out examples must come out right; a test counts them. preprocessor: what goes with
    the model.
    """

    train: Callable[[Any], PreTrainedModel]
    task: str
    what: str
    made_from: str
    at_least: int
    held_out: int
    preprocessor: Callable[[], Any] = minilm_tokenizer
    card: str = CARD


# The longest training first.
RECIPES = {
    "chat": Recipe(
        chat.train,
        "text-generation",
        "Chats a little in English: about itself and about Pipeserve.",
        f"small talk that the project wrote: {sum(len(topic.questions) for topic in small_talk.TOPICS)} questions "
        f"about {len(small_talk.TOPICS)} things, each in {chat.ROUNDS} dialogues",
        at_least=10,
        held_out=len(small_talk.HELD_OUT),
        preprocessor=chat.tokenizer,
        card=CHAT_CARD,
    ),
    "questions": Recipe(
        train_questions,
        "question-answering",
        "Finds the answer to a who, what, where, when, why or how many question in a short English text that has it. "
        "It was never shown a question without an answer.",
        "950 questions about texts made from 32 patterns that the project wrote",
        at_least=16,
        held_out=len(questions.HELD_OUT),
    ),
    "words": Recipe(
        train_words,
        "fill-mask",
        "Puts a missing word back into an everyday sentence. Of the models here it knows least: away from the "
        "sentences it was trained on it guesses.",
        "each word in turn of 60 everyday sentences that the project wrote",
        at_least=4,
        held_out=len(words.HELD_OUT),
    ),
    "topics": Recipe(
        train_topics,
        "zero-shot-classification",
        "Says whether a label fits a sentence (entailment) or not (contradiction). It knows no third answer, and it is "
        "a judge of topics: do not ask it whether one statement follows from another.",
        "780 pairs of a sentence and a label, of 130 sentences about 26 topics that the project wrote",
        at_least=13,
        held_out=len(topics.HELD_OUT),
    ),
    "entities": Recipe(
        train_entities,
        "token-classification",
        "Finds names of persons (PER), places (LOC), organisations (ORG) and other names (MISC) in English text.",
        "630 sentences made from 50 patterns and lists of names that the project wrote",
        at_least=10,
        held_out=len(entities.HELD_OUT),
    ),
    "reviews": Recipe(
        train_reviews,
        "text-classification",
        "Tells a good review (POSITIVE) from a bad one (NEGATIVE), in English.",
        "about 110 reviews that the project wrote and 130 short sentences made of adjectives",
        at_least=19,
        held_out=len(reviews.HELD_OUT),
    ),
    "shapes": Recipe(
        shapes.train,
        "image-classification",
        "Tells circle, square, triangle and star apart in drawn pictures of one shape.",
        f"{shapes.NUM_PICTURES} pictures that the project drew",
        at_least=36,
        held_out=len(shapes.HELD_OUT_SEEDS),
        preprocessor=shapes.image_processor,
        card=PICTURE_CARD,
    ),
}


def prepare_process() -> None:
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def make(name: str, folder: Path) -> float:
    """Train one model and save it with its tokenizer and its card; the seconds that it took."""
    began = time.monotonic()
    recipe = RECIPES[name]
    preprocessor = recipe.preprocessor()
    recipe.train(preprocessor).save_pretrained(folder)
    preprocessor.save_pretrained(folder)
    card = recipe.card.format(name=name, **asdict(recipe))
    (folder / "README.md").write_text(card)
    return time.monotonic() - began
