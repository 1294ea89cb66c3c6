"""zero-shot-image-classification: an image's vector against those of the labels, which are computed once.

The pipeline computes the texts again with every image. Here the texts of a batch that are not known yet share a
forward, and the images another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from app.errors import NotAvailable
from app.media.images import decode_image
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.parts import Parts
from app.runtime.stacking import Row, shape_of, stack
from app.runtime.vision.images import ImageFeatures, ImageStages, cost_of
from app.runtime.vision.text_tower import LabelVectors, TextTower, pooled

DEFAULT_TEMPLATE = "This is a photo of {}."


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """texts, label_rows: the labels in their sentences, and the tokens of these."""

    image: ImageFeatures
    texts: list[str]
    label_rows: list[Row]


class ZeroShotImageClassificationStages(ImageStages):
    """One item per image."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        if not hasattr(parts.model, "get_image_features"):
            raise NotAvailable("This model has no vectors of images to compare with labels.")
        self._tower = TextTower(parts)
        self._labels = LabelVectors(self._tower)
        self._is_sigmoid = "siglip" in parts.model.config.model_type

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        self._tower.release()

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        template = parameters.get("hypothesis_template", DEFAULT_TEMPLATE)
        texts = [template.format(label) for label in parameters["candidate_labels"]]
        rows = self._tower.encode(texts, truncate=True)
        return [[self._labelled(data, texts, rows, f"inputs[{index}]")] for index, data in enumerate(inputs)]

    def _labelled(self, data: bytes, texts: list[str], rows: list[Row], param: str) -> Item:
        image = decode_image(data, self._parts.media, param=param)
        row = self._processed(image, param)
        features = LabelledImage(ImageFeatures(row, (image.height, image.width)), texts, rows)
        return Item(features, cost_of(row), shape_of(row))

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """Logits of each image's labels, float32 on CPU: [labels]."""
        features: list[LabelledImage] = [item.features for item in items]
        inputs = stack([one.image.row for one in features], self._model.device, self._model.dtype)
        images = pooled(self._model.get_image_features(**inputs))
        images = images / images.norm(dim=-1, keepdim=True)
        wanted = {text: row for one in features for text, row in zip(one.texts, one.label_rows, strict=True)}
        vectors = dict(zip(wanted, self._labels.of(list(wanted), list(wanted.values())), strict=True))
        outputs = []
        for one, image in zip(features, images, strict=True):
            logits = torch.stack([vectors[text] for text in one.texts]) @ image
            outputs.append(self._scaled(logits).float().cpu())
        return outputs

    def _scaled(self, logits: torch.Tensor) -> torch.Tensor:
        """As the model itself scales likeness to logits."""
        scale = getattr(self._model, "logit_scale", None)
        if scale is not None:
            logits = logits * scale.exp().squeeze()
        elif getattr(self._model, "temperature", None) is not None:  # ALIGN
            logits = logits / self._model.temperature
        bias = getattr(self._model, "logit_bias", None)
        return logits if bias is None else logits + bias.squeeze()

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (logits,) = outputs
        require_finite(logits)
        scores = (logits.sigmoid() if self._is_sigmoid else logits.softmax(0)).tolist()
        ranked = sorted(zip(scores, parameters["candidate_labels"], strict=True), key=lambda pair: -pair[0])
        return [{"label": label, "score": score} for score, label in ranked]
