"""speech: a text, read aloud, in the words of OpenAI's API. Only its route asks it, of models that serve
text-to-audio."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.tasks.base import Example, Task
from app.tasks.text import Text
from app.tasks.text_to_audio import TextToAudioParameters

SPEAKING_TASK = "text-to-audio"
"""A model that serves it speaks."""


class SpeechParameters(TextToAudioParameters):
    voice: str | None = Field(default=None, description="Of a model with several voices the name of one.")
    speed: float | None = Field(default=None, ge=0.25, le=4, description="2: in half the time, at the same pitch.")


TASK = Task(
    name="speech",
    is_listed=False,
    summary="A text, read aloud.",
    modality="audio",
    input_type=Text,
    parameters=SpeechParameters,
    output_type=dict[str, Any],
    auto_classes=(),
    needs=("tokenizer?", "processor?", "vocoder?"),
    stages="app.runtime.audio.speaking:SpeechStages",
    default_model="facebook/mms-tts-eng",
    example=Example(
        body={"inputs": "The match ended two goals to one."},
        answer={"audio": "<base64 of a WAV file>", "sampling_rate": 16000},
    ),
    batching="Each text by itself; MusicGen: texts of equally many tokens with equal parameters and no seed.",
    answers=("audio/mpeg", "audio/opus", "audio/aac", "audio/flac", "audio/wav", "audio/pcm"),
)
