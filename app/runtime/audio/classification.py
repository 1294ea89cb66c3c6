"""The stages of audio-classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AudioClassificationPipeline
from transformers.modeling_outputs import SequenceClassifierOutput

from app.runtime.audio.sounds import Sounds
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.stacking import Row


class AudioClassificationStages(OwnStages):
    """One item per sound."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._sounds = Sounds(parts)
        self._pipeline = AudioClassificationPipeline(
            model=parts.model, feature_extractor=parts.feature_extractor, device=parts.device
        )

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[self._item(data, f"inputs[{index}]")] for index, data in enumerate(inputs)]

    def _item(self, data: bytes, param: str) -> Item:
        samples = self._sounds.decode(data, param)
        self._sounds.require_seconds(samples, param)
        row: Row = self._sounds.extract(lambda: self._pipeline.preprocess(samples), param)
        return Item(row, self._sounds.cost(row), self._sounds.group(row))

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[torch.Tensor]:
        """Logits of each sound, float32 on CPU: [labels]."""
        logits = self._model(**self._sounds.stack([item.features for item in items])).logits
        return list(logits.float().cpu())

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (logits,) = outputs
        require_finite(logits)
        _, _, options = self._pipeline._sanitize_parameters(
            function_to_apply=parameters.get("function_to_apply"), top_k=parameters.get("top_k")
        )
        labels: list[dict[str, Any]] = self._pipeline.postprocess(
            SequenceClassifierOutput(logits=logits[None]), **options
        )
        return labels
