"""text-to-audio: speech, music or other sounds from a text."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.tasks.base import JSON, Example, Task
from app.tasks.generation_parameters import GenerationParameters
from app.tasks.text import Text


class TextToAudioParameters(GenerationParameters):
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="The same seed speaks the same text in the same way, whoever else asks.",
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Tokens of sound at most. Models that speak a whole text at once (VITS, SpeechT5) go by the text.",
    )
    speaker_id: int | None = Field(default=None, ge=0, description="The voice, of VITS models that have several.")
    speaker_embeddings: Annotated[list[float], Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description="The voice as numbers, as SpeechT5 takes it (512 of them). Unset: all zeros."
    )


class Speech(BaseModel):
    audio: str = Field(description="base64 of a WAV file")
    sampling_rate: int


def _normalize(body: dict[str, Any]) -> dict[str, Any]:
    """`text` may stand at the root, or in `inputs`."""
    inputs = body.get("inputs")
    if isinstance(inputs, dict) and set(inputs) == {"text"}:
        return {**body, "inputs": inputs["text"]}
    if inputs is None and "text" in body:
        return {
            "inputs": body["text"],
            **{name: value for name, value in body.items() if name not in ("text", "inputs")},
        }
    return body


TASK = Task(
    name="text-to-audio",
    aliases=("text-to-speech",),
    summary="A sound from a text: speech, music or noises, as the model has learnt.",
    modality="audio",
    input_type=Text,
    parameters=TextToAudioParameters,
    output_type=Speech | list[Speech],
    auto_classes=("AutoModelForTextToWaveform", "AutoModelForTextToSpectrogram"),
    needs=("tokenizer?", "processor?", "vocoder?"),
    stages="app.runtime.audio.synthesis:TextToAudioStages",
    warm_up=("a", {"max_new_tokens": 8}),
    default_model="facebook/mms-tts-eng",
    example=Example(
        body={"inputs": "The match ended two goals to one."},
        answer={"audio": "<base64 of a WAV file>", "sampling_rate": 16000},
    ),
    batching="Each text by itself; MusicGen: texts of equally many tokens with equal parameters and no seed.",
    answers=("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg", JSON),
    normalize=_normalize,
)
