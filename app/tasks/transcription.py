"""transcription: what is said in a sound and when, in the words of OpenAI's API. Only its routes ask it, of models that
serve automatic-speech-recognition."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from pydantic import Field, field_validator

from app.tasks.base import Example, Parameters, Task
from app.tasks.completion import Token
from app.tasks.media import Audio
from app.tasks.samples import WAV_BASE64
from app.tasks.text import MAX_TEXT_CHARS

RECOGNIZING_TASK = "automatic-speech-recognition"
"""A model that serves it transcribes."""
TOKENS_PER_S = 50
"""What a second of sound counts as: Whisper's encoder, wav2vec2 and its kin make one output of 20 ms."""


def num_audio_tokens(seconds: float) -> int:
    return math.ceil(round(seconds * TOKENS_PER_S, 6))


class TranscriptionParameters(Parameters):
    """Texts are drawn token by token, never by beams."""

    language: str | None = Field(default=None, description="Such as `en` or `english`. Whisper only; unset: it hears.")
    translates: bool | None = Field(default=None, description="Into English. Whisper only.")
    prompt: str | None = Field(
        default=None, max_length=MAX_TEXT_CHARS, description="The text before what is said. Whisper only."
    )
    temperature: float | None = Field(default=None, ge=0, le=1, description="Unset and 0: the likeliest token.")
    top_k: int | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    max_new_tokens: int | None = Field(default=None, ge=1, description="Of each window of the sound.")
    has_segments: bool | None = Field(default=None, description="Tell `segments`.")
    has_words: bool | None = Field(default=None, description="Tell `words`.")
    has_logprobs: bool | None = Field(default=None, description="Tell `tokens`.")

    @field_validator("temperature", mode="before")
    @classmethod
    def _take_first(cls, value: Any) -> Any:
        """models.yaml may have a list for automatic-speech-recognition, to be tried one after the other."""
        return value[0] if isinstance(value, list) and value else value


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """start_s, end_s: in the sound. seek_s: where the window begins that it was heard in. tokens: those of its text.
    mean_logprob: of these. no_speech_prob: that nobody speaks in the window; 0 from models that do not know."""

    start_s: float
    end_s: float
    text: str
    seek_s: float = 0.0
    tokens: tuple[int, ...] = ()
    mean_logprob: float = 0.0
    no_speech_prob: float = 0.0


class Word(msgspec.Struct, frozen=True):
    text: str
    start_s: float
    end_s: float


class Transcription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """language: its English name in lower case; "" from models that do not know. num_tokens: all that were written.
    num_prompt_tokens: of the prompt's text."""

    text: str
    duration_s: float
    language: str = ""
    segments: tuple[Segment, ...] = ()
    words: tuple[Word, ...] = ()
    tokens: tuple[Token, ...] = ()
    num_tokens: int = 0
    num_prompt_tokens: int = 0


def read_transcription(fragment: bytes) -> Transcription:
    return msgspec.json.decode(fragment, type=Transcription)


TASK = Task(
    name="transcription",
    is_listed=False,
    summary="What is said in a sound, and when.",
    modality="audio",
    input_type=Audio,
    parameters=TranscriptionParameters,
    output_type=dict[str, Any],
    auto_classes=(),
    needs=("tokenizer", "feature_extractor"),
    stages="app.runtime.audio.transcription:TranscriptionStages",
    default_model="openai/whisper-tiny",
    example=Example(
        body={"inputs": WAV_BASE64},
        answer={"text": "He hoped there would be stew for dinner.", "duration_s": 3.5, "language": "english"},
    ),
    batching="Sounds, and the windows of long ones, of any requests with equal parameters, whatever their language.",
    media_field="inputs",
)
