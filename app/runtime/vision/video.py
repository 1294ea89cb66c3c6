"""The stages of video-classification."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import VideoClassificationPipeline

from app.errors import InvalidInput, NotAvailable
from app.media.video import read_frames
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.stacking import Row, shape_of, stack
from app.runtime.vision.images import BAD_IMAGE, cost_of

MAX_FRAMES = 256


class VideoClassificationStages(OwnStages):
    """One item per video: the frames that the model looks at."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._processor = parts.image_processor or parts.video_processor
        if self._processor is None:
            raise NotAvailable("This model's videos are processed by torchvision, which is not installed.")

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[self._item(data, parameters, f"inputs[{index}]")] for index, data in enumerate(inputs)]

    def _item(self, data: bytes, parameters: dict[str, Any], param: str) -> Item:
        num_frames = parameters.get("num_frames") or self._model.config.num_frames
        if num_frames > MAX_FRAMES:
            name = "parameters.num_frames"
            raise InvalidInput(f"{name} is {num_frames}; the limit is {MAX_FRAMES}.", param=name)
        wanted = self._wanted(num_frames, parameters.get("frame_sampling_rate", 1))
        frames = read_frames(data, self._parts.media, param=param, choose=lambda total: wanted)
        row = self._row(frames, param)
        return Item(row, cost_of(row), shape_of(row))

    @staticmethod
    def _wanted(num_frames: int, rate: int) -> list[int]:
        """As the pipeline chooses them; of a video that is too short the last frame stands for those that miss."""
        chosen: list[int] = np.linspace(0, num_frames * rate - 1, num=num_frames, dtype=np.int64).tolist()
        return chosen

    def _row(self, frames: Any, param: str) -> Row:
        try:
            return dict(self._processor(list(frames), return_tensors="pt"))
        except BAD_IMAGE as error:
            raise InvalidInput(
                f"{param}: the model's processor cannot take this video: {error}.", param=param
            ) from error

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """Logits of each video, float32 on CPU: [labels]."""
        inputs = stack([item.features for item in items], self._model.device, self._model.dtype)
        try:
            return list(self._model(**inputs).logits.float().cpu())
        except (RuntimeError, ValueError) as error:
            if self._frames_of(inputs) == self._model.config.num_frames:
                raise
            name = "parameters.num_frames"
            message = f"{name}: this model looks at {self._model.config.num_frames} frames, no more and no fewer."
            raise InvalidInput(message, param=name) from error

    @staticmethod
    def _frames_of(inputs: dict[str, Any]) -> int:
        return int(next(iter(inputs.values())).shape[1])

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (logits,) = outputs
        require_finite(logits)
        labels: list[dict[str, Any]] = VideoClassificationPipeline.postprocess(
            SimpleNamespace(model=self._model, framework="pt"),  # transformers 4 asks for the framework
            SimpleNamespace(logits=logits[None]),
            top_k=parameters.get("top_k", 5),
            function_to_apply=parameters.get("function_to_apply"),
        )
        return labels
