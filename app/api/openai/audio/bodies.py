"""What clients send to /v1/audio: OpenAI's fields and those of vLLM beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.api.fields import Body, Unused
from app.tasks.text import Text

TIMED_FORMATS = ("srt", "verbose_json", "vtt")


class SoundBody(BaseModel):
    """The texts of a form, read as what they are to be."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(default=None, description="A declared model. Unset: the first that recognizes speech.")
    prompt: str | None = Field(default=None, description="The text before what is said. Whisper only.")
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    temperature: float | None = Field(default=None, ge=0, le=1, description="0, or unset: the likeliest tokens.")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="vLLM's, as those that follow.")
    top_k: int | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    max_completion_tokens: int | None = Field(default=None, ge=1, description="Of each window of a long sound.")
    keep_alive: str | None = Field(default=None, description="How long the model stays loaded afterwards.")

    @field_validator("response_format", mode="before")
    @classmethod
    def _refuse_speakers(cls, value: Any) -> Any:
        if value == "diarized_json":
            raise ValueError("diarized_json tells who speaks, which no model here knows")
        return value


class TranscriptionBody(SoundBody):
    language: str | None = Field(default=None, description="Such as `en`. Whisper only; unset: it finds out.")
    timestamp_granularities: list[Literal["word", "segment"]] | None = Field(
        default=None, description="For verbose_json. Unset: segment."
    )
    include: list[Literal["logprobs"]] | None = Field(default=None, description="For json, streamed or not.")
    stream: bool = Field(default=False, description="Server-sent events; for json.")
    stream_include_usage: bool | None = Field(default=None, description="Accepted; the last event always tells it.")
    stream_continuous_usage_stats: bool | None = Field(default=None, description="The usage so far in every event.")

    @field_validator("timestamp_granularities", "include")
    @classmethod
    def _not_empty(cls, value: list[str] | None) -> list[str] | None:
        return value or None


class TranslationBody(SoundBody):
    """Into English."""


class VoiceId(Body):
    id: str


class SpeechBody(Body):
    input: Text
    model: str | None = Field(default=None, description="A declared model. Unset: the first that speaks.")
    voice: str | VoiceId | None = Field(
        default=None,
        description="Of a model with several voices their number, `0` the first; others have one, whatever this says.",
    )
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = Field(
        default="mp3", description="pcm: 24 kHz, 16 bits, little-endian, one channel, no header."
    )
    speed: Annotated[float, Field(ge=0.25, le=4)] | None = None
    stream_format: Literal["audio", "sse"] = Field(
        default="audio", description="sse: events; a model speaks a text at once, so there is one with the sound."
    )
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="The same seed speaks in the same way.")
    keep_alive: float | str | None = Field(default=None, description="How long the model stays loaded afterwards.")


_NO_SPEAKERS = "no model here tells speakers apart"
_GREEDY = "texts are drawn token by token"
_UNCHANGED = ("0", "0.0")
UNUSED_OF_SOUNDS = Unused(
    harmless={
        "metadata": "nothing is kept of a request",
        "user": "nothing is kept of a request",
    },
    refused={
        "frequency_penalty": (_UNCHANGED, "repetition_penalty is what these models know"),
        "hotwords": ((), "prompt can name them"),
        "length_penalty": (("1", "1.0"), _GREEDY),
        "min_p": (_UNCHANGED, "top_p and top_k are what these models know"),
        "n": (("1",), "there is one text for a sound"),
        "presence_penalty": (_UNCHANGED, "repetition_penalty is what these models know"),
        "use_beam_search": (("false", "False", "0"), _GREEDY),
        "vllm_xargs": (("{}",), "they are vLLM's own"),
    },
)
"""Of both routes that take a form."""
UNUSED_OF_TRANSCRIPTIONS = Unused(
    harmless={**UNUSED_OF_SOUNDS.harmless},
    refused={
        **UNUSED_OF_SOUNDS.refused,
        "chunking_strategy": (("auto",), "long sounds are cut where it is quiet, which is auto"),
        "keywords": ((), "prompt can name them"),
        "known_speaker_names": ((), _NO_SPEAKERS),
        "known_speaker_references": ((), _NO_SPEAKERS),
        "languages": ((), "language takes one"),
        "to_language": ((), "/v1/audio/translations is a route of its own"),
    },
)
_NOT_STREAMED = "translations come in one piece, in OpenAI's API too"
UNUSED_OF_TRANSLATIONS = Unused(
    harmless={**UNUSED_OF_SOUNDS.harmless, "stream_include_usage": _NOT_STREAMED},
    refused={
        **UNUSED_OF_SOUNDS.refused,
        "include": ((), "log-probabilities are told of transcriptions alone"),
        "language": ((), "what is spoken is heard"),
        "stream": (("false", "False", "0"), _NOT_STREAMED),
        "stream_continuous_usage_stats": (("false", "False", "0"), _NOT_STREAMED),
        "timestamp_granularities": ((["segment"],), "translations have times of segments alone"),
        "to_language": (("en", "english", "English"), "Whisper translates into English alone"),
    },
)
UNUSED_OF_SPEECH = Unused(
    harmless={"user": "nothing is kept of a request"},
    refused={
        "instructions": (("",), "no model here speaks as it is told to, it reads what it is given"),
    },
)
