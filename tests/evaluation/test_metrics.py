"""Metrics are what their libraries compute over the same rows, resampled ones included."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import sacrebleu
import sklearn.metrics
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from app.errors import InvalidInput, NotAvailable
from app.evaluation.metrics import ALL, metrics_of
from app.evaluation.pairs import Box, Kind, Pair
from app.tasks.registry import TASKS

RANDOM = np.random.default_rng(3)
LABELS = ("a", "b", "c", "never answered", "never right")


def value(name: str, kind: Kind, pairs: Sequence[Pair], places: Any = None) -> float:
    metric = next(one for one in ALL if one.name == name and kind in one.kinds)
    return metric.prepare(pairs)(np.arange(len(pairs)) if places is None else places)


def labels(count: int) -> list[Pair]:
    references = RANDOM.choice(LABELS[:4], count)
    return [
        Pair((one if RANDOM.random() < 0.6 and one != LABELS[3] else RANDOM.choice([*LABELS[:3], LABELS[4]]),), one)
        for one in references
    ]


@pytest.mark.parametrize(
    ("name", "function", "keywords"),
    [
        ("accuracy", "accuracy_score", {}),
        ("f1", "f1_score", {"average": "macro", "zero_division": 0}),
        ("f1-micro", "f1_score", {"average": "micro", "zero_division": 0}),
        ("f1-weighted", "f1_score", {"average": "weighted", "zero_division": 0}),
        ("precision", "precision_score", {"average": "macro", "zero_division": 0}),
        ("recall", "recall_score", {"average": "macro", "zero_division": 0}),
        ("mcc", "matthews_corrcoef", {}),
    ],
)
def test_label_metrics_are_scikit_learns(name: str, function: str, keywords: dict[str, Any]) -> None:
    """Of all rows, and of a resample in which a label is missing."""
    pairs = labels(200)
    without = np.array([place for place, pair in enumerate(pairs) if pair.reference != "c"])
    for places in (np.arange(200), RANDOM.choice(without, 100)):
        drawn = [pairs[place] for place in places]
        truth, ours = [pair.reference for pair in drawn], [pair.predicted[0] for pair in drawn]
        expected = getattr(sklearn.metrics, function)(truth, ours, **keywords)
        assert value(name, Kind.LABEL, pairs, places) == pytest.approx(expected)


def test_five_likeliest_labels_count() -> None:
    """Where the model answers more than one."""
    pairs = [Pair(("a", "b", "c"), "b"), Pair(("a",), "b"), Pair((), "b"), Pair(tuple("vwxyz") + ("b",), "b")]
    assert value("top-5-accuracy", Kind.LABEL, pairs) == 0.25
    assert value("accuracy", Kind.LABEL, pairs) == 0


TEXTS = [
    ("the cat sat on the mat", ("the cat sat on the mat", "a cat is on the mat")),
    ("there is a small dog here", ("there was a small dog there today", "a dog is here")),
    ("no words of it", ("something else entirely different", "quite another thing that is long")),
    ("", ("an empty answer is an answer", "too")),
    ("somebody plays a guitar in the garden", ("somebody played the guitar in a garden", "he plays guitar")),
]


@pytest.mark.parametrize("places", [[0, 1, 2, 3, 4], [4, 4, 1, 0], [2, 3, 3]])
def test_text_metrics_are_those_of_their_libraries(places: list[int]) -> None:
    """BLEU, chrF, word and character error rates: of the corpus, not the mean of its sentences."""
    pairs = [Pair(*one) for one in TEXTS]
    drawn = [pairs[place] for place in places]
    ours = [pair.predicted for pair in drawn]
    theirs = [[pair.reference[number] for pair in drawn] for number in range(2)]
    at = np.array(places)
    assert value("bleu", Kind.TEXT, pairs, at) == pytest.approx(sacrebleu.corpus_bleu(ours, theirs).score)
    assert value("chrf", Kind.TEXT, pairs, at) == pytest.approx(sacrebleu.corpus_chrf(ours, theirs).score)
    assert value("wer", Kind.TEXT, pairs, at) == pytest.approx(jiwer.wer(theirs[0], ours))
    assert value("cer", Kind.TEXT, pairs, at) == pytest.approx(jiwer.cer(theirs[0], ours))


def test_rouge_by_hand() -> None:
    """The best of several references: 2 of 3 words are right, 2 of 4 are found."""
    pairs = [Pair("one two three", ("zero", "one two five six")), Pair("same", ("same",))]
    assert value("rouge1", Kind.TEXT, pairs) == pytest.approx((2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4) + 1) / 2)
    assert value("rouge2", Kind.TEXT, pairs[:1]) == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    assert value("rougel", Kind.TEXT, pairs[1:]) == 1


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("The Eiffel Tower!", ("eiffel tower",), 1, 1),
        ("in Paris, France", ("Paris", "London"), 0, 0.5),
        ("", ("",), 1, 1),
        ("something", ("",), 0, 0),
        ("to be or to be", ("to be",), 0, 2 * 2 / (5 + 2)),
    ],
)
def test_answers_to_questions_as_squad_counts_them(
    answer: str, references: tuple[str, ...], exact: float, f1: float
) -> None:
    """Articles, case and punctuation aside; words count as often as both have them."""
    pairs = [Pair(answer, references)]
    assert value("exact-match", Kind.ANSWER, pairs) == exact
    assert value("f1", Kind.ANSWER, pairs) == pytest.approx(f1)
    assert value("exact-match", Kind.TEXT, [Pair(" The X", ("The X ",)), Pair("the x", ("The X",))]) == 0.5


def test_numbers() -> None:
    """Ranks only count for Spearman; numbers that are all the same have no correlation."""
    pairs = [Pair(predicted, reference) for predicted, reference in ((0.1, 1.0), (0.2, 2.0), (0.9, 3.0))]
    assert value("spearman", Kind.NUMBER, pairs) == pytest.approx(1)
    assert value("pearson", Kind.NUMBER, pairs) == pytest.approx(np.corrcoef([0.1, 0.2, 0.9], [1, 2, 3])[0, 1])
    assert value("mae", Kind.NUMBER, pairs) == pytest.approx((0.9 + 1.8 + 2.1) / 3)
    assert np.isnan(value("spearman", Kind.NUMBER, pairs, np.array([1, 1, 1])))


def test_entities_by_hand() -> None:
    """2 of 3 answered ones are right, 2 of 4 are found."""
    pairs = [
        Pair(frozenset({(0, 3, "PER"), (5, 8, "LOC")}), frozenset({(0, 3, "PER"), (5, 9, "LOC"), (11, 12, "LOC")})),
        Pair(frozenset({(1, 2, "PER")}), frozenset({(1, 2, "PER")})),
        Pair(frozenset(), frozenset()),
    ]
    assert value("precision", Kind.ENTITIES, pairs) == pytest.approx(2 / 3)
    assert value("recall", Kind.ENTITIES, pairs) == pytest.approx(2 / 4)
    assert value("f1", Kind.ENTITIES, pairs) == pytest.approx(4 / 7)
    assert value("f1", Kind.ENTITIES, pairs[2:]) == 0


def nearby(bbox: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, width, height = (side + int(RANDOM.integers(-3, 4)) for side in bbox)
    return left, top, width, height


def boxes(num_images: int) -> list[Pair]:
    found = []
    for _ in range(num_images):
        truth = [
            Box(str(RANDOM.choice(["cat", "dog"])), 1.0, tuple(RANDOM.integers(5, 60, 4).tolist()))
            for _ in range(RANDOM.integers(0, 4))
        ]
        ours = [Box(box.label, float(RANDOM.random()), nearby(box.bbox)) for box in truth if RANDOM.random() < 0.8]
        found.append(Pair([*ours, Box("cat", float(RANDOM.random()), (1, 1, 9, 9))], truth))
    return found


def test_mean_average_precision_is_cocos() -> None:
    """Of all images, and of some of them, one twice."""
    pairs = boxes(12)
    for places in ([*range(12)], [3, 3, 5, 0, 11]):
        expected = coco([pairs[place] for place in places])
        assert value("map", Kind.OBJECTS, pairs, np.array(places)) == pytest.approx(expected[0])
        assert value("map50", Kind.OBJECTS, pairs, np.array(places)) == pytest.approx(expected[1])
    perfect = [Pair(pair.reference, pair.reference) for pair in pairs]
    assert value("map", Kind.OBJECTS, perfect) == pytest.approx(1)


def coco(pairs: Sequence[Pair]) -> list[float]:
    """As its own script evaluates files of results."""
    truth, ours = COCO(), []
    categories = {"cat": 1, "dog": 2}
    annotations: list[dict[str, Any]] = []
    for image, pair in enumerate(pairs, start=1):
        for box in pair.reference:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": categories[box.label], "iscrowd": 0}
                | {"bbox": list(box.bbox), "area": box.bbox[2] * box.bbox[3]}
            )
        ours += [
            {"image_id": image, "category_id": categories[box.label], "bbox": list(box.bbox), "score": box.score}
            for box in pair.predicted
        ]
    truth.dataset = {
        "images": [{"id": number + 1} for number in range(len(pairs))],
        "categories": [{"id": number} for number in categories.values()],
        "annotations": annotations,
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(ours), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(one) for one in evaluation.stats[:2]]


def rankings(count: int) -> list[Pair]:
    """Graded, with ties of scores; of the last a text was not answered."""
    found = []
    for _ in range(count):
        relevances = RANDOM.integers(0, 3, 6).astype(float)
        relevances[RANDOM.integers(6)] = 1
        scores = RANDOM.integers(0, 9, 6) / 10
        found.append(Pair(tuple(enumerate(scores.tolist())), tuple(relevances.tolist())))
    return [*found, Pair(((2, 0.9), (0, 0.1)), (0.0, 1.0, 1.0))]


def test_rankings_are_scikit_learns() -> None:
    """nDCG and average precision of each row; MRR by hand: the first is right, the second, none among the best two."""
    pairs = rankings(20)
    whole = pairs[:20]
    scores = np.array([[score for _, score in pair.predicted] for pair in whole])
    relevances = np.array([pair.reference for pair in whole])
    for most in (1, 3, 10):
        expected = sklearn.metrics.ndcg_score(relevances, scores, k=most)
        assert value(f"ndcg@{most}", Kind.RANKING, whole) == pytest.approx(expected)
    each = [sklearn.metrics.average_precision_score(a > 0, b) for a, b in zip(relevances, scores, strict=True)]
    assert value("map", Kind.RANKING, whole) == pytest.approx(np.mean(each))
    assert value("mrr", Kind.RANKING, pairs[20:]) == 1
    assert value("ndcg", Kind.RANKING, pairs[20:]) == pytest.approx((1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3)))
    order = ((0, 0.9), (1, 0.8), (2, 0.7))
    found = [Pair(order, (1.0, 0.0, 0.0)), Pair(order, (0.0, 2.0, 1.0)), Pair(order, (0.0, 0.0, 1.0))]
    assert value("mrr", Kind.RANKING, found) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert value("mrr@1", Kind.RANKING, found) == pytest.approx(1 / 3)
    assert value("ndcg@10", Kind.RANKING, [Pair(((0, 0.5),), (1.0,))]) == 1
    with pytest.raises(InvalidInput, match="3 texts, and a relevance for 2"):
        value("mrr", Kind.RANKING, [Pair(order, (1.0, 0.0))])


def test_metrics_of_a_task() -> None:
    """The usual ones, those that are asked for, and a sentence for all others."""
    assert [metric.name for metric, _ in metrics_of(TASKS["text-classification"], [])] == ["accuracy", "f1"]
    assert [metric.name for metric, _ in metrics_of(TASKS["automatic-speech-recognition"], [])] == ["wer", "cer"]
    assert metrics_of(TASKS["text-classification"], ["Spearman"])[0][1] is Kind.NUMBER
    with pytest.raises(InvalidInput, match="--metric wer: text-classification has accuracy"):
        metrics_of(TASKS["text-classification"], ["wer"])
    with pytest.raises(NotAvailable, match="no metrics of text-to-audio"):
        metrics_of(TASKS["text-to-audio"], [])


@pytest.mark.slow
def test_metric_of_the_evaluate_library(tmp_path: Path) -> None:
    """A script of one's own, in a process of its own: labels are numbers there, and the field may be named."""
    script = """
import datasets
import evaluate
class Agreement(evaluate.Metric):
    def _info(self):
        features = datasets.Features(predictions=datasets.Value("int32"), references=datasets.Value("int32"))
        return evaluate.MetricInfo(description="", citation="", features=features)
    def _compute(self, predictions, references):
        return {"wrong": sum(a != b for a, b in zip(predictions, references)), "count": len(predictions)}
"""
    (tmp_path / "agreement").mkdir()
    (tmp_path / "agreement" / "agreement.py").write_text(script)
    run = """
import sys
import numpy
from app.errors import InvalidInput
from app.evaluation.metrics import metrics_of
from app.evaluation.pairs import Pair
from app.tasks.registry import TASKS

pairs = [Pair(("a",), "a"), Pair(("b",), "a"), Pair(("b",), "b")]
for name, expected in (("", 1), (":count", 3)):
    ((metric, kind),) = metrics_of(TASKS["text-classification"], [f"evaluate:{sys.argv[1]}{name}"])
    assert metric.prepare(pairs)(numpy.arange(3)) == expected
((metric, kind),) = metrics_of(TASKS["text-classification"], [f"evaluate:{sys.argv[1]}:gone"])
try:
    metric.prepare(pairs)(numpy.arange(3))
except InvalidInput as error:
    assert "it gives wrong, count" in str(error)
else:
    raise AssertionError("no error")
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", run, str(tmp_path / "agreement")], check=True, timeout=100, env=environment)
