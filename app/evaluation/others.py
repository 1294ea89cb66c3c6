"""Metrics of numbers (scipy), entities, and boxes in images (pycocotools)."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from app.dataset.extras import needed
from app.evaluation.metric import Metric, Places, Score, mean_of, summed
from app.evaluation.pairs import Box, Kind, Pair


def _correlation(function: str) -> Callable[[Sequence[Pair]], Score]:
    def prepare(pairs: Sequence[Pair]) -> Score:
        compute = getattr(needed("scipy.stats", "eval"), function)
        predicted = np.array([pair.predicted for pair in pairs])
        reference = np.array([pair.reference for pair in pairs])

        def score(places: Places) -> float:
            ours, theirs = predicted[places], reference[places]
            if len(places) < 2 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
                return float("nan")  # of numbers that are all the same there is none
            return float(compute(ours, theirs).statistic)

        return score

    return prepare


def _error(pairs: Sequence[Pair]) -> Score:
    return mean_of([abs(pair.predicted - pair.reference) for pair in pairs])


def _entities(combine: Callable[[float, float, float], float]) -> Callable[[Sequence[Pair]], Score]:
    """An entity is right when begin, end and label are. combine: of the number of right ones, answered ones, and those
    of the data."""

    def prepare(pairs: Sequence[Pair]) -> Score:
        counts = [(len(pair.predicted & pair.reference), len(pair.predicted), len(pair.reference)) for pair in pairs]
        return summed(counts, lambda sums: combine(*map(float, sums)))

    return prepare


def _mean_precision(iou: float | None) -> Callable[[Sequence[Pair]], Score]:
    """COCO's mean average precision, at one overlap or over 0.5 to 0.95."""

    def prepare(pairs: Sequence[Pair]) -> Score:
        coco = _coco(pairs)
        overlap = slice(None) if iou is None else int(np.argmin(abs(coco.params.iouThrs - iou)))
        each = np.empty(len(coco.evalImgs), dtype=object)
        each[:] = coco.evalImgs
        by_category = each.reshape(-1, len(pairs))

        def score(places: Places) -> float:
            coco.evalImgs = by_category[:, places].reshape(-1).tolist()
            coco.params.imgIds = coco._paramsEval.imgIds = list(range(len(places)))
            with redirect_stdout(io.StringIO()):
                coco.accumulate()
            found = coco.eval["precision"][overlap]
            return float(found[found > -1].mean()) if (found > -1).any() else float("nan")

        return score

    return prepare


def _coco(pairs: Sequence[Pair]) -> Any:
    """Every image is compared here, once; boxes of all sizes count, a hundred an image."""
    boxes = [box for pair in pairs for box in (*pair.predicted, *pair.reference)]
    categories = {label: number for number, label in enumerate(sorted({box.label for box in boxes}), start=1)}
    with redirect_stdout(io.StringIO()):
        theirs = _coco_set(len(pairs), categories, [pair.reference for pair in pairs])
        ours = _coco_set(len(pairs), categories, [pair.predicted for pair in pairs])
        coco = needed("pycocotools.cocoeval", "eval").COCOeval(theirs, ours, "bbox")
        coco.params.areaRng, coco.params.areaRngLbl, coco.params.maxDets = [[0, 1e10]], ["all"], [100]
        coco.evaluate()
    return coco


def _coco_set(num_images: int, categories: dict[str, int], boxes: Sequence[Sequence[Box]]) -> Any:
    found = needed("pycocotools.coco", "eval").COCO()
    found.dataset = {
        "images": [{"id": number} for number in range(num_images)],
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": categories[box.label],
                "bbox": list(box.bbox),
                "area": box.bbox[2] * box.bbox[3],
                "iscrowd": 0,
                "score": box.score,
            }
            for number, (image, box) in enumerate(
                ((image, box) for image, each in enumerate(boxes) for box in each), start=1
            )
        ],
    }
    found.createIndex()
    return found


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


_BOX_RESAMPLES = 200

METRICS = (
    Metric(name="spearman", kinds=(Kind.NUMBER,), prepare=_correlation("spearmanr")),
    Metric(name="pearson", kinds=(Kind.NUMBER,), prepare=_correlation("pearsonr")),
    Metric(name="mae", kinds=(Kind.NUMBER,), prepare=_error, is_better_lower=True),
    Metric(
        name="f1",
        kinds=(Kind.ENTITIES,),
        prepare=_entities(lambda right, ours, theirs: _share(2 * right, ours + theirs)),
    ),
    Metric(name="precision", kinds=(Kind.ENTITIES,), prepare=_entities(lambda right, ours, _: _share(right, ours))),
    Metric(name="recall", kinds=(Kind.ENTITIES,), prepare=_entities(lambda right, _, theirs: _share(right, theirs))),
    Metric(name="map", kinds=(Kind.OBJECTS,), prepare=_mean_precision(None), resamples=_BOX_RESAMPLES),
    Metric(name="map50", kinds=(Kind.OBJECTS,), prepare=_mean_precision(0.5), resamples=_BOX_RESAMPLES),
)
