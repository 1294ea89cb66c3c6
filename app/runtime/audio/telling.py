"""What was heard in a window of a sound, told as text, segments and words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from app.tasks.transcription import Segment, Word

MAX_PAUSE_S = 0.8
MAX_SEGMENT_S = 7.0
"""Of a CTC model's segments, which are made of its words: what can be read while it is said."""


@dataclass(frozen=True, slots=True)
class Heard:
    """tokens: as written, times among them; of a CTC model the likeliest of each output. logprobs: of each token, if
    they were wanted. times: of each token in the window, seconds, float
    [tokens], if words were wanted."""

    tokens: list[int]
    logprobs: list[float]
    no_speech_prob: float = 0.0
    times: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """Of a window: seconds in it, and places among its tokens."""

    start_s: float
    end_s: float
    places: range


class Telling:
    """For one thread. pipeline: transformers', whose decoding is used."""

    def __init__(self, pipeline: Any, model: Any) -> None:
        self._pipeline = pipeline
        self.tokenizer = pipeline.tokenizer
        self._kind: str = pipeline.type
        no_times = getattr(model.generation_config, "no_timestamps_token_id", None) if self._kind != "ctc" else None
        self._first_time = None if no_times is None or self._kind != "seq2seq_whisper" else no_times + 1
        self._blank = model.config.pad_token_id
        self._special = frozenset(self.tokenizer.all_special_ids)
        if self._kind == "seq2seq_whisper":
            self._precision = pipeline.feature_extractor.chunk_length / model.config.max_source_positions

    def is_time(self, token: int) -> bool:
        return self._first_time is not None and token >= self._first_time

    def is_text(self, token: int) -> bool:
        return token not in self._special and not self.is_time(token)

    def num_tokens(self, heard: Heard) -> int:
        return len(self._collapsed(heard.tokens)) if self._kind == "ctc" else len(heard.tokens)

    def text(self, heard: Heard) -> str:
        if self._kind == "ctc":
            return str(self._asked(heard, None)["text"])
        return self._decoded(heard.tokens)

    def timed(
        self, heard: Heard, begin_s: float, seconds: float, *, has_words: bool
    ) -> tuple[list[Segment], list[Word]]:
        """In the whole sound's seconds. begin_s, seconds: of the window."""
        words = self._words(heard, seconds) if has_words or self._kind == "ctc" else []
        if self._kind == "ctc":
            segments = [self._segment_of_words(heard, group) for group in _grouped(words)]
        else:
            segments = [self._segment(heard, piece) for piece in self._pieces(heard, seconds)]
        moved = [
            Segment(
                start_s=begin_s + one.start_s,
                end_s=begin_s + one.end_s,
                text=one.text,
                seek_s=begin_s,
                tokens=one.tokens,
                mean_logprob=one.mean_logprob,
                no_speech_prob=heard.no_speech_prob,
            )
            for one in segments
        ]
        return moved, [Word(one.text, begin_s + one.start_s, begin_s + one.end_s) for one in words if has_words]

    def _decoded(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode([one for one in tokens if not self.is_time(one)], skip_special_tokens=True)
        return text

    def _asked(self, heard: Heard, timestamps: str | None) -> dict[str, Any]:
        output: dict[str, Any] = {"tokens": torch.tensor([heard.tokens])}
        if heard.times is not None:
            output["token_timestamps"] = [heard.times]
        answer: dict[str, Any] = self._pipeline.postprocess([output], return_timestamps=timestamps)
        return answer

    def _words(self, heard: Heard, seconds: float) -> list[Word]:
        if not heard.tokens:
            return []
        words = []
        for chunk in self._asked(heard, "word")["chunks"]:
            start, end = chunk["timestamp"]
            end_s = seconds if end is None else min(float(end), seconds)
            words.append(Word(chunk["text"].strip(), min(float(start or 0.0), end_s), end_s))
        return words

    def _pieces(self, heard: Heard, seconds: float) -> Iterator[_Piece]:
        """Whisper's: what stands between two times; after the last it goes on to the end of the window."""
        start_s, begin = 0.0, 0
        for place, token in enumerate([*heard.tokens, None]):
            if token is not None and not self.is_time(token):
                continue
            end_s = seconds if token is None else min((token - (self._first_time or 0)) * self._precision, seconds)
            if begin < place:
                yield _Piece(start_s, max(start_s, end_s), range(begin, place))
            start_s, begin = end_s, place + 1

    def _segment(self, heard: Heard, piece: _Piece) -> Segment:
        places = [place for place in piece.places if self.is_text(heard.tokens[place])]
        tokens = [heard.tokens[place] for place in places]
        return Segment(
            start_s=piece.start_s,
            end_s=piece.end_s,
            text=self._decoded(tokens),
            tokens=tuple(tokens),
            mean_logprob=_mean([heard.logprobs[place] for place in places] if heard.logprobs else []),
        )

    def _segment_of_words(self, heard: Heard, words: Sequence[Word]) -> Segment:
        per_second = self._pipeline.feature_extractor.sampling_rate / self._pipeline._align_to
        first, last = (round(seconds * per_second) for seconds in (words[0].start_s, words[-1].end_s))
        return Segment(
            start_s=words[0].start_s,
            end_s=words[-1].end_s,
            text=" ".join(word.text for word in words),
            tokens=tuple(self._collapsed(heard.tokens[first:last])),
            mean_logprob=_mean(heard.logprobs[first:last]),
        )

    def _collapsed(self, outputs: Sequence[int]) -> list[int]:
        return [token for token, _ in groupby(outputs) if token != self._blank]


def _grouped(words: Sequence[Word]) -> list[list[Word]]:
    groups: list[list[Word]] = []
    for word in words:
        last = groups[-1] if groups else None
        if last is None or word.start_s - last[-1].end_s > MAX_PAUSE_S or word.end_s - last[0].start_s > MAX_SEGMENT_S:
            groups.append([word])
        else:
            last.append(word)
    return groups


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
