"""The stages of keypoint-matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import KeypointMatchingPipeline

from app.errors import InvalidInput
from app.media.images import decode_image
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.stacking import stack
from app.runtime.vision.images import BAD_IMAGE, cost_of


class KeypointMatchingStages(OwnStages):
    """One item per pair of images. The models name their keypoints by place, so a pair is a forward of its own."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._pipeline = KeypointMatchingPipeline(
            model=parts.model, image_processor=parts.image_processor, device=parts.device
        )

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[self._item(pair, f"inputs[{index}]")] for index, pair in enumerate(inputs)]

    def _item(self, pair: Sequence[bytes], param: str) -> Item:
        images = [decode_image(data, self._parts.media, param=f"{param}[{place}]") for place, data in enumerate(pair)]
        try:
            features = self._pipeline.preprocess(images)
        except BAD_IMAGE as error:
            raise InvalidInput(
                f"{param}: the model's processor cannot take these images: {error}.", param=param
            ) from error
        return Item(features, cost_of(features["model_inputs"]), object())

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        return [self._matched(item.features) for item in items]

    def _matched(self, features: dict[str, Any]) -> dict[str, Any]:
        output = self._model(**stack([features["model_inputs"]], self._model.device, self._model.dtype))
        for name, value in output.items():
            if isinstance(value, torch.Tensor):
                output[name] = value.float().cpu() if value.is_floating_point() else value.cpu()
        return {"model_outputs": output, "target_sizes": [features["target_sizes"]]}

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (output,) = outputs
        require_finite(output["model_outputs"].matching_scores)
        matches: list[dict[str, Any]] = self._pipeline.postprocess(output, threshold=parameters.get("threshold", 0.0))
        return [dict(match) for match in matches]
