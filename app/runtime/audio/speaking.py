"""The stages of speech: text-to-audio with voices by their names, and at the speed that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.media.answers import Sound
from app.media.tempo import require_stretching, stretch
from app.runtime.audio.synthesis import TextToAudioStages, wrong
from app.runtime.base import Item

DEFAULT_VOICE = "default"


class SpeechStages(TextToAudioStages):
    """Only VITS models have several voices that a request can name: by their numbers, `0` the first. Other models have
    one, by whatever name."""

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        if parameters.get("speed", 1.0) != 1.0:
            require_stretching(param="parameters.speed")
        return super().prepare(inputs, self._spoken(parameters))

    def _spoken(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """As text-to-audio takes them. Raises InvalidInput for a voice that is not there."""
        told = {name: value for name, value in parameters.items() if name not in ("voice", "speed")}
        voice = parameters.get("voice")
        if voice is None or voice == DEFAULT_VOICE or self._num_voices <= 1:
            return told
        if not (voice.isascii() and voice.isdecimal()) or int(voice) >= self._num_voices:
            raise wrong("voice", f"there is no {voice[:64]!r} here; the voices are 0 to {self._num_voices - 1}")
        return {**told, "speaker_id": int(voice)}

    @property
    def _num_voices(self) -> int:
        return int(getattr(self._model.config, "num_speakers", 1)) if self._kind == "vits" else 1

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Sound:
        sound = super().finish(items, outputs, parameters)
        speed = parameters.get("speed", 1.0)
        return sound if speed == 1.0 else Sound(stretch(sound.samples, sound.sampling_rate, speed), sound.sampling_rate)
