"""The stages of mask-generation: SAM asked about a grid of points, some of them in each forward.

As the pipeline of transformers, except that its last step, throwing out masks of the same thing, is our own: there it
needs torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from app.errors import InvalidInput, NotAvailable
from app.media.answers import Picture
from app.media.images import decode_image
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.stacking import Row, shape_of, stack
from app.runtime.vision.images import BAD_IMAGE

MAX_POINTS = 16_384
"""Of one image, all its crops together."""
_TOKENS_PER_POINT = 8
_CROPS = ("crops_n_layers", "crop_overlap_ratio", "points_per_crop", "crop_n_points_downscale_factor")
_FILTERS = ("pred_iou_thresh", "stability_score_thresh", "mask_threshold", "stability_score_offset")


@dataclass(slots=True, eq=False)
class Crop:
    """A part of an image. vectors: its embedding, computed with the first of its points. Owned by the device thread."""

    pixels: torch.Tensor
    box: Any
    sizes: dict[str, Any]
    vectors: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one crop. row: the model's inputs but for the embedding."""

    crop: Crop
    row: Row
    filters: Mapping[str, Any]


class MaskGenerationStages(OwnStages):
    """One item per `points_per_batch` points."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        if not hasattr(parts.image_processor, "generate_crop_boxes"):
            raise NotAvailable("This model's images are processed by torchvision, which is not installed.")

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [self._items(data, parameters, f"inputs[{index}]") for index, data in enumerate(inputs)]

    def _items(self, data: bytes, parameters: dict[str, Any], param: str) -> list[Item]:
        image = decode_image(data, self._parts.media, param=param)
        self._require_few(parameters)
        try:
            crops, points, labels = self._crops(image, parameters)
        except BAD_IMAGE as error:
            raise InvalidInput(
                f"{param}: the model's processor cannot take this image: {error}.", param=param
            ) from error
        filters = {name: parameters[name] for name in _FILTERS if name in parameters}
        step = parameters.get("points_per_batch", 64)
        items = []
        for place, crop in enumerate(crops):
            for start in range(0, points.shape[1], step):
                row = {
                    "input_points": points[:, start : start + step, place : place + 1, :],
                    "input_labels": labels[:, start : start + step, place : place + 1],
                }
                cost = row["input_points"].shape[1] * _TOKENS_PER_POINT
                items.append(Item(Points(crop, row, filters), cost, (shape_of(row), crop.pixels.shape)))
        return items

    def _require_few(self, parameters: Mapping[str, Any]) -> None:
        layers, side = parameters.get("crops_n_layers", 0), parameters.get("points_per_crop", 32)
        num_points = sum(
            4**layer * int(side / parameters.get("crop_n_points_downscale_factor", 1) ** layer) ** 2
            for layer in range(layers + 1)
        )
        if not 0 < num_points <= MAX_POINTS:
            name = "parameters.points_per_crop"
            raise InvalidInput(f"{name}: these are {num_points} points; the limit is {MAX_POINTS}.", param=name)

    def _crops(self, image: Image.Image, parameters: Mapping[str, Any]) -> tuple[list[Crop], Any, Any]:
        processor = self._parts.image_processor
        side = processor.size["longest_edge"] if "longest_edge" in processor.size else processor.size["height"]
        defaults = dict(zip(_CROPS, (0, 512 / 1500, 32, 1), strict=True))
        options = [parameters.get(name, default) for name, default in defaults.items()]
        boxes, points, images, labels = processor.generate_crop_boxes(image, side, *options)
        inputs = dict(processor(images=images, return_tensors="pt"))
        pixels = inputs.pop("pixel_values")
        crops = [
            Crop(pixels[place : place + 1], torch.as_tensor(box), _sizes(inputs, place))
            for place, box in enumerate(boxes)
        ]
        dtype = self._model.dtype
        return crops, torch.as_tensor(points).to(dtype), torch.as_tensor(labels)

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """The masks that pass the filters, as run lengths, with their scores and boxes, on CPU."""
        points: list[Points] = [item.features for item in items]
        self._embed([one.crop for one in points])
        rows = [{**one.row, **one.crop.vectors} for one in points]
        output = self._model(**stack(rows, self._model.device, self._model.dtype))
        return [
            self._filtered(one, output["pred_masks"][index : index + 1], output["iou_scores"][index : index + 1])
            for index, one in enumerate(points)
        ]

    def _embed(self, crops: Sequence[Crop]) -> None:
        """Each crop once, those that need it together."""
        new = [crop for place, crop in enumerate(crops) if not crop.vectors and crop not in crops[:place]]
        if not new:
            return
        pixels = torch.cat([crop.pixels for crop in new]).to(self._model.device, self._model.dtype)
        found = self._model.get_image_embeddings(pixels)
        for place, crop in enumerate(new):
            if isinstance(found, tuple):  # SAM-HQ
                crop.vectors["image_embeddings"] = found[0][place : place + 1]
                crop.vectors["intermediate_embeddings"] = [one[place : place + 1] for one in found[1]]
            else:
                crop.vectors["image_embeddings"] = found[place : place + 1]

    def _filtered(self, points: Points, low: torch.Tensor, scores: torch.Tensor) -> dict[str, Any]:
        require_finite(scores)
        crop, filters = points.crop, points.filters
        threshold = filters.get("mask_threshold", 0)
        masks = self._parts.image_processor.post_process_masks(
            low, crop.sizes["original_sizes"], mask_threshold=threshold, binarize=False, **_reshaped(crop.sizes)
        )
        kept, kept_scores, boxes = self._parts.image_processor.filter_masks(
            masks[0],
            scores[0],
            crop.sizes["full_size"],
            crop.box,
            filters.get("pred_iou_thresh", 0.88),
            filters.get("stability_score_thresh", 0.95),
            threshold,
            filters.get("stability_score_offset", 1),
        )
        return {"masks": kept, "scores": kept_scores.float().cpu(), "boxes": boxes.float().cpu()}

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        masks = [mask for output in outputs for mask in output["masks"]]
        scores = torch.cat([output["scores"] for output in outputs])
        boxes = torch.cat([output["boxes"] for output in outputs])
        kept = distinct(boxes, scores, parameters.get("crops_nms_thresh", 0.7))
        return [
            {"score": float(scores[index]), "mask": Picture(Image.fromarray(_unpacked(masks[index])))} for index in kept
        ]


def _sizes(inputs: Mapping[str, Any], place: int) -> dict[str, Any]:
    sizes = {"original_sizes": inputs["original_sizes"][place : place + 1].tolist()}
    sizes["full_size"] = inputs["original_sizes"][0].tolist()
    if "reshaped_input_sizes" in inputs:
        sizes["reshaped_input_sizes"] = inputs["reshaped_input_sizes"][place : place + 1].tolist()
    return sizes


def _reshaped(sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: sizes[name] for name in ("reshaped_input_sizes",) if name in sizes}


def distinct(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    """Non-maximum suppression: from the best score down, boxes [n, 4] that overlap no better one by more than this."""
    kept: list[int] = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting = scores.argsort(descending=True, stable=True)
    while len(waiting):
        best, rest = waiting[0], waiting[1:]
        kept.append(int(best))
        near = torch.maximum(boxes[rest, :2], boxes[best, :2])
        far = torch.minimum(boxes[rest, 2:], boxes[best, 2:])
        common = (far - near).clamp(min=0).prod(1)
        waiting = rest[~(common > threshold * (areas[rest] + areas[best] - common))]
    return kept


def _unpacked(runs: Mapping[str, Any]) -> Any:
    """Run lengths along the columns -> [height, width], 0 and 255."""
    height, width = runs["size"]
    values = np.arange(len(runs["counts"])) % 2 * 255
    flat = np.repeat(values, runs["counts"]).astype(np.uint8)
    return np.ascontiguousarray(flat.reshape(width, height).T)
