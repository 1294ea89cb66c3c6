"""Vocoders, which make sounds of the spectrograms that some models speak in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers

from app.fetching import check_weights

FOLDER = "vocoder"
_CLASSES = ("SpeechT5HifiGan", "FastSpeech2ConformerHifiGan")


class Vocoder:
    """Loads one in the manner of transformers' Auto classes."""

    @staticmethod
    def from_pretrained(folder: Path, *, allow_pickle: bool = False) -> Any:
        """From its own folder, or from a folder `vocoder` in a model's. Raises OSError where there is none, ModelFailed
        where its weights are pickled and this is not allowed."""
        own = folder / FOLDER if (folder / FOLDER).is_dir() else folder
        names = json.loads((own / "config.json").read_bytes()).get("architectures") or []
        known = [name for name in names if name in _CLASSES]
        if not known:
            raise OSError(f"{own.name} holds no vocoder; {' and '.join(_CLASSES)} are known.")
        check_weights(own, allow_pickle=allow_pickle)
        use_safetensors = None if allow_pickle else True
        return getattr(transformers, known[0]).from_pretrained(own, use_safetensors=use_safetensors).eval()
