"""Transcriptions in OpenAI's shapes: JSON, subtitles and events."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.tasks.completion import Delta, Token
from app.tasks.transcription import Segment, Transcription, Word, num_audio_tokens

UNKNOWN_LANGUAGE = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """What the request says of all of its answer."""

    is_translation: bool = False
    has_segments: bool = False
    has_words: bool = False
    has_logprobs: bool = False
    temperature: float = 0.0

    def json(self, told: Transcription) -> dict[str, Any]:
        if self.is_translation:
            return {"text": told.text}
        logprobs = {"logprobs": logprobs_of(told.tokens)} if self.has_logprobs else {}
        return {"text": told.text, **logprobs, "usage": _duration(told)}

    def verbose(self, told: Transcription) -> dict[str, Any]:
        language = "english" if self.is_translation else told.language or UNKNOWN_LANGUAGE
        answer: dict[str, Any] = {
            "task": "translate" if self.is_translation else "transcribe",
            "language": language,
            "duration": _rounded(told.duration_s),
            "text": told.text,
        }
        if self.has_segments:
            answer["segments"] = [self._segment(index, one) for index, one in enumerate(told.segments)]
        if self.has_words:
            answer["words"] = [_word(one) for one in told.words]
        return answer if self.is_translation else {**answer, "usage": _duration(told)}

    def _segment(self, index: int, segment: Segment) -> dict[str, Any]:
        """seek: in frames of 10 ms, as Whisper counts."""
        text = segment.text.encode()
        return {
            "id": index,
            "seek": round(segment.seek_s * 100),
            "start": _rounded(segment.start_s),
            "end": _rounded(segment.end_s),
            "text": segment.text,
            "tokens": segment.tokens,
            "temperature": self.temperature,
            "avg_logprob": segment.mean_logprob,
            "compression_ratio": len(text) / len(zlib.compress(text)),
            "no_speech_prob": segment.no_speech_prob,
        }

    # Events

    def delta_event(self, text: str, tokens: Sequence[Token], usage: dict[str, Any] | None) -> dict[str, Any]:
        logprobs = {"logprobs": logprobs_of(tokens)} if self.has_logprobs else {}
        told = {} if usage is None else {"usage": usage}
        return {"type": "transcript.text.delta", "delta": text, **logprobs, **told}

    def done_event(self, told: Transcription) -> dict[str, Any]:
        logprobs = {"logprobs": logprobs_of(told.tokens)} if self.has_logprobs else {}
        usage = _token_usage(
            num_audio=num_audio_tokens(told.duration_s),
            num_text=told.num_prompt_tokens,
            num_written=told.num_tokens,
        )
        return {"type": "transcript.text.done", "text": told.text, **logprobs, "usage": usage}


def usage_so_far(*, num_read: int, num_written: int) -> dict[str, Any]:
    return {
        "type": "tokens",
        "input_tokens": num_read,
        "output_tokens": num_written,
        "total_tokens": num_read + num_written,
    }


def _token_usage(*, num_audio: int, num_text: int, num_written: int) -> dict[str, Any]:
    details = {"audio_tokens": num_audio, "text_tokens": num_text}
    return {
        **usage_so_far(num_read=num_audio + num_text, num_written=num_written),
        "input_token_details": details,
    }


def logprobs_of(tokens: Iterable[Token]) -> list[dict[str, Any]]:
    return [
        {
            "token": one.text,
            "bytes": list(one.data if one.data is not None else one.text.encode()),
            "logprob": one.logprob,
        }
        for one in tokens
    ]


def _duration(told: Transcription) -> dict[str, Any]:
    return {"type": "duration", "seconds": _rounded(told.duration_s)}


def _word(word: Word) -> dict[str, Any]:
    return {"word": word.text, "start": _rounded(word.start_s), "end": _rounded(word.end_s)}


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


# Subtitles


def srt(told: Transcription) -> str:
    return "".join(
        f"{index}\n{_clock(one.start_s, ',')} --> {_clock(one.end_s, ',')}\n{_cue(one)}\n\n"
        for index, one in enumerate(told.segments, start=1)
    )


def vtt(told: Transcription) -> str:
    cues = (f"{_clock(one.start_s, '.')} --> {_clock(one.end_s, '.')}\n{_cue(one)}\n\n" for one in told.segments)
    return "WEBVTT\n\n" + "".join(cues)


def plain(told: Transcription) -> str:
    return told.text + "\n"


PLAIN: dict[str, Callable[[Transcription], str]] = {"text": plain, "srt": srt, "vtt": vtt}
"""By `response_format`: what is answered as a text."""


def _cue(segment: Segment) -> str:
    """In one line, since an empty one ends a cue, and without what looks like times."""
    return " ".join(segment.text.split()).replace("-->", "->")


def _clock(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


# Streams


@dataclass(slots=True)
class Reading:
    """The deltas of windows that are written side by side, in the order of the sound; the text as it stands in the
    whole: without spaces at its ends."""

    num_written: int = 0  # tokens of what was given out
    _window: int = 0
    _waiting: dict[int, list[Delta]] = field(default_factory=dict)
    _counted: dict[int, int] = field(default_factory=dict)
    _spaces: str = ""
    _has_begun: bool = False

    def add(self, delta: Delta) -> list[Delta]:
        """Those whose turn it is now."""
        self._waiting.setdefault(delta.choice, []).append(delta)
        ready: list[Delta] = []
        while waiting := self._waiting.pop(self._window, None):
            ready += waiting
            if waiting[-1].finish_reason is None:
                break
            self._window += 1
        return ready

    def text(self, delta: Delta) -> str:
        """What the delta adds to the text."""
        self._counted[delta.choice] = delta.num_tokens
        self.num_written = sum(self._counted.values())
        text = self._spaces + delta.text
        if not self._has_begun:
            text = text.lstrip()
        told = text.rstrip()
        self._spaces = text[len(told) :]
        self._has_begun = self._has_begun or bool(told)
        return told
