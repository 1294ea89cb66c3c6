"""automatic-speech-recognition: the text of what is said in a sound."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from app.tasks.base import Example, Task
from app.tasks.generation_parameters import GENERATION_KEYS, GenerationParameters
from app.tasks.media import Audio, single_media
from app.tasks.samples import WAV, WAV_BASE64

_WHISPER_KEYS = frozenset(
    ("language", "task", "condition_on_prev_tokens", "compression_ratio_threshold", "logprob_threshold")
    + ("no_speech_threshold", "return_timestamps")
)

Temperature = Annotated[float, Field(ge=0, le=100)]


class SpeechRecognitionParameters(GenerationParameters):
    temperature: Temperature | Annotated[list[Temperature], Field(min_length=1, max_length=8)] | None = Field(  # type: ignore[assignment]  # a list, too
        default=None,
        description="Above 1: bolder draws, below: tamer. Whisper also takes a list: when a text fails the thresholds"
        " of compression_ratio_threshold and logprob_threshold, the next is tried.",
    )
    return_timestamps: bool | Literal["word", "char"] | None = Field(
        default=None,
        description="Answer `chunks` with the seconds in which each was said: true for the segments of Whisper,"
        ' "word" for words, "char" for the letters of a CTC model.',
    )
    return_language: bool | None = Field(default=None, description="Name the language in `chunks`. Whisper only.")
    chunk_length_s: float | None = Field(
        default=None,
        ge=0,
        description="Seconds of the windows that a long sound is cut into, which are computed side by side. Unset: 30"
        " for sounds that are longer than the model hears at once (Whisper: 30 s, others: 60 s). 0: none; Whisper"
        " then goes through a long sound in its own way, one window after the other, each begun where the last ended.",
    )
    stride_length_s: float | list[float] | None = Field(
        default=None,
        description="Seconds by which windows overlap at their left and right: a number or two. Unset: a sixth of"
        " chunk_length_s.",
    )
    language: str | None = Field(
        default=None, description="What is spoken, such as `en` or `english`. Whisper only; unset: it finds out."
    )
    task: Literal["transcribe", "translate"] | None = Field(
        default=None, description="translate: into English. Whisper only."
    )
    condition_on_prev_tokens: bool | None = Field(
        default=None, description="Each window knows the text before it. Whisper with chunk_length_s 0 only."
    )
    compression_ratio_threshold: float | None = Field(
        default=None, gt=0, description="Texts that can be compressed more are taken for repetition. Whisper only."
    )
    logprob_threshold: float | None = Field(default=None, description="What counts as a failed text. Whisper only.")
    no_speech_threshold: float | None = Field(
        default=None, ge=0, le=1, description="From this probability of silence on, no text. Whisper only."
    )

    @classmethod
    def extra_keys(cls) -> frozenset[str]:
        return _WHISPER_KEYS

    @field_validator("stride_length_s")
    @classmethod
    def _two_at_most(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) != 2:
            raise ValueError("must be a number or two of them, left and right")
        if any(side < 0 for side in (value if isinstance(value, list) else [value or 0])):
            raise ValueError("must not be negative")
        return value


class Chunk(BaseModel):
    text: str
    timestamp: tuple[float | None, float | None] | None = Field(default=None, description="Seconds: begin and end.")
    language: str | None = None


class Transcript(BaseModel):
    text: str
    chunks: list[Chunk] | None = None


TASK = Task(
    name="automatic-speech-recognition",
    summary="The text of what is said in a sound, with its times if asked for.",
    modality="audio",
    input_type=Audio,
    parameters=SpeechRecognitionParameters,
    output_type=Transcript | list[Transcript],
    auto_classes=("AutoModelForCTC", "AutoModelForSpeechSeq2Seq"),
    needs=("tokenizer", "feature_extractor"),
    stages="app.runtime.audio.speech:SpeechRecognitionStages",
    warm_up=(WAV, {}),
    default_model="openai/whisper-tiny",
    example=Example(
        body={"inputs": WAV_BASE64},
        answer={"text": " He hoped there would be stew for dinner."},
    ),
    batching="Sounds, and the windows of long ones, of any requests with equal generation parameters; for models"
    " without attention masks those of equal length.",
    media_field="inputs",
    normalize=single_media(
        "audio",
        parameters=tuple(
            sorted(GENERATION_KEYS | _WHISPER_KEYS | {"return_language", "chunk_length_s", "stride_length_s"})
        ),
    ),
)
