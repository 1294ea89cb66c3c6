"""question-answering, which transformers 5 no longer has: on AutoModelForQuestionAnswering, as 4.57 answered it.

Scores, answers and character offsets are those of transformers 4.57.6's QuestionAnsweringPipeline (fast tokenizers):
the probabilities of a span's start and end multiplied, equal answers of all windows merged. Two things differ: spans
of probability 0 are no answers (4.57 fills a list with them), and `max_question_len` is honoured (4.57 ignores it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from app.errors import InputTooLarge, InvalidInput, ModelFailed
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.collating import Collator
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.tokenizing import Row
from app.runtime.unpadding import is_unpadded

_WINDOW_TOKENS = 384
_DOC_STRIDE = 128
_MAX_ANSWER_TOKENS = 15
_NEVER = -10000.0  # the logit of a token that no answer may hold

Probabilities = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a context with the question. encoding: the tokenizers library's, for offsets and words."""

    inputs: Row
    encoding: Any
    context: str
    is_allowed: NDArray[np.bool_]  # [tokens]: may be in an answer


@dataclass(slots=True)
class Answer:
    score: float
    start: int
    end: int
    answer: str


class QuestionAnsweringStages(OwnStages):
    """One item per window of the context."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizers, limit = parts.require_tokenizers(), parts.limit
        tokenizer = tokenizers.shared
        if not tokenizer.is_fast:
            raise ModelFailed("question-answering needs a fast tokenizer, which this model does not have.")
        self._tokenizers = tokenizers
        self._collator = Collator(parts.model, tokenizer)
        self._is_unpadded = is_unpadded(parts.model)
        self._max_tokens = limit if limit is not None else 10**6
        self._is_question_first = tokenizer.padding_side == "right"

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        """Of this thread: encoding sets truncation inside it. Taken at the first use: only `prepare` encodes."""
        return self._tokenizers.take()

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        if "_tokenizer" in self.__dict__:
            self._tokenizers.give_back(self.__dict__.pop("_tokenizer"))

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [
            [
                Item(window, len(window.inputs["input_ids"]), is_unpadded=self._is_unpadded)
                for window in self._windows(one, parameters)
            ]
            for one in inputs
        ]

    def _windows(self, one_input: dict[str, str], parameters: dict[str, Any]) -> list[Window]:
        context = one_input["context"]
        question, num_question_tokens = self._question(one_input["question"], parameters.get("max_question_len"))
        max_seq_len = self._max_seq_len(parameters)
        room = max_seq_len - num_question_tokens - self._tokenizer.num_special_tokens_to_add(pair=True)
        if room < 1:
            raise InputTooLarge(
                f"inputs.question has {num_question_tokens} tokens; a window of {max_seq_len} leaves no room for the"
                " context. Send max_question_len to have the question cut.",
                param="inputs.question",
            )
        first, second = (question, context) if self._is_question_first else (context, question)
        encoding = self._tokenizer(
            first,
            second,
            truncation="only_second" if self._is_question_first else "only_first",
            max_length=max_seq_len,
            stride=self._doc_stride(parameters, max_seq_len, room),
            return_overflowing_tokens=True,
        )
        return [self._window(one, context) for one in encoding.encodings]

    def _question(self, question: str, max_tokens: int | None) -> tuple[str, int]:
        """The question, cut if it is to be, and its length in tokens."""
        encoding = self._tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoding["offset_mapping"]
        if max_tokens is not None and len(offsets) > max_tokens:
            return question[: offsets[max_tokens - 1][1]], max_tokens
        return question, len(offsets)

    def _max_seq_len(self, parameters: dict[str, Any]) -> int:
        given = parameters.get("max_seq_len")
        if given is not None and given > self._max_tokens:
            name = "parameters.max_seq_len"
            raise InvalidInput(f"{name} is {given}; this model takes at most {self._max_tokens} tokens.", param=name)
        return given if given is not None else min(self._max_tokens, _WINDOW_TOKENS)

    def _doc_stride(self, parameters: dict[str, Any], max_seq_len: int, room: int) -> int:
        """Windows must move on: they share less than the room that the question leaves."""
        given: int | None = parameters.get("doc_stride")
        if given is None:
            return min(max_seq_len // 2, _DOC_STRIDE, room - 1)
        if given >= room:
            name = "parameters.doc_stride"
            raise InvalidInput(
                f"{name} is {given}; a window has room for {room} tokens of context, so it must be less.", param=name
            )
        return given

    def _window(self, encoding: Any, context: str) -> Window:
        row = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
        if "token_type_ids" in self._tokenizer.model_input_names:
            row["token_type_ids"] = encoding.type_ids
        ids = np.array(encoding.ids)
        if self._is_question_first:
            is_allowed = np.array([sequence == 1 for sequence in encoding.sequence_ids])
            # The class token stays: some models say with it that there is no answer.
            if self._tokenizer.cls_token_id is not None:
                is_allowed |= ids == self._tokenizer.cls_token_id
        else:
            is_allowed = np.ones(len(ids), dtype=bool)
        return Window(row, encoding, context, is_allowed)

    @torch.inference_mode()
    def forward(
        self, items: Sequence[Item], watch: Watch = UNWATCHED
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Logits of start and end of each item, both [tokens]."""
        output = self._model(**self._collator.collate([item.features.inputs for item in items]))
        starts, ends = output.start_logits.float().cpu(), output.end_logits.float().cpu()
        return [
            (self._collator.trim(start, item.cost).numpy(), self._collator.trim(end, item.cost).numpy())
            for item, start, end in zip(items, starts, ends, strict=True)
        ]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        top_k = parameters.get("top_k", 1)
        is_aligned = parameters.get("align_to_words", True)
        # More candidates than answers: alignment to words makes some of them equal.
        num_candidates = top_k * 2 + 10 if is_aligned else top_k
        answers: dict[str, Answer] = {}
        no_answer = 1e6
        for item, (start_logits, end_logits) in zip(items, outputs, strict=True):
            window: Window = item.features
            starts, ends = _probabilities(start_logits, window), _probabilities(end_logits, window)
            no_answer = min(no_answer, float(starts[0] * ends[0]))
            starts[0] = ends[0] = 0.0
            max_tokens = parameters.get("max_answer_len", _MAX_ANSWER_TOKENS)
            for first, last, score in _best_spans(starts, ends, num_candidates, max_tokens):
                self._add(answers, window, first, last, score, is_aligned)
        ranked = list(answers.values())
        if parameters.get("handle_impossible_answer"):
            ranked.append(Answer(no_answer, 0, 0, ""))
        ranked = sorted(ranked, key=lambda answer: answer.score, reverse=True)[:top_k]
        found = [{"score": one.score, "start": one.start, "end": one.end, "answer": one.answer} for one in ranked]
        if top_k > 1:
            return found
        return found[0] if found else {"score": 0.0, "start": 0, "end": 0, "answer": ""}

    def _add(
        self, answers: dict[str, Answer], window: Window, first: int, last: int, score: float, is_aligned: bool
    ) -> None:
        """Equal answers, letter case aside, are one: with the place of the first and the sum of the scores."""
        start, end = self._characters(window.encoding, first, last, is_aligned)
        text = window.context[start:end]
        known = answers.get(text.lower())
        if known is None:
            answers[text.lower()] = Answer(score, start, end, text)
        else:
            known.score += score

    def _characters(self, encoding: Any, first: int, last: int, is_aligned: bool) -> tuple[int, int]:
        if is_aligned:
            sequence = 1 if self._is_question_first else 0
            first_word, last_word = encoding.token_to_word(first), encoding.token_to_word(last)
            if first_word is not None and last_word is not None:
                opening = encoding.word_to_chars(first_word, sequence)
                closing = encoding.word_to_chars(last_word, sequence)
                if opening is not None and closing is not None:
                    return opening[0], closing[1]
        return encoding.offsets[first][0], encoding.offsets[last][1]


def _probabilities(logits: NDArray[np.float32], window: Window) -> Probabilities:
    """Softmax over the tokens that an answer may hold. Raises BackendFailed for NaN and infinity."""
    require_finite(logits)
    allowed = np.where(window.is_allowed, logits, np.float32(_NEVER))
    exponents = np.exp(allowed - allowed.max())
    probabilities: Probabilities = exponents / exponents.sum()
    return probabilities


def _best_spans(
    starts: Probabilities, ends: Probabilities, num_spans: int, max_tokens: int
) -> list[tuple[int, int, float]]:
    """First token, last token and probability of the likeliest spans of at most max_tokens, best first."""
    possible = np.flatnonzero((starts > 0) | (ends > 0))
    if len(possible) == 0:
        return []
    low, high = int(possible[0]), int(possible[-1]) + 1
    spans = np.tril(np.triu(np.outer(starts[low:high], ends[low:high])), max_tokens - 1)
    flat = spans.ravel()
    count = min(num_spans, len(flat))
    best = np.argpartition(-flat, count - 1)[:count]
    best = best[np.argsort(-flat[best], kind="stable")]
    rows, columns = np.unravel_index(best, spans.shape)
    return [
        (int(row) + low, int(column) + low, float(spans[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if spans[row, column] > 0
    ]
