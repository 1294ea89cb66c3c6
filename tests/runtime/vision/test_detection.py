"""Segmentation, detection, masks and documents against `transformers.pipeline` on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoModelForMaskGeneration,
    AutoTokenizer,
    MaskGenerationPipeline,
    pipeline,
)

from app.errors import BackendFailed, InvalidInput, NotAvailable
from app.runtime.base import Stages
from app.runtime.vision.masks import distinct
from tests import tiny
from tests.runtime.compute import Job, answer, answer_together, load
from tests.runtime.vision.images import picture, png
from tests.runtime.vision.test_images import assert_same, assert_same_among_strangers

PICTURES = [picture(64, 48, 1), picture(64, 48, 2), picture(48, 96, 3), picture(200, 150, 4)]
FILES = [png(one) for one in PICTURES]
LABELS = ["a cat", "the dog", "a small house in paris"]
WORDS = "the total sum is seven and the year was two".split()
BOXES = [[word, [50 * place, 10, 50 * place + 40, 30]] for place, word in enumerate(WORDS)]
QUESTION = "what is the sum ?"


@pytest.fixture(scope="module")
def stages(tiny_dir: Path) -> dict[str, Stages]:
    from tests.tiny.detection import TASKS

    return {name: load(tiny.build(name, tiny_dir), task).stages(task) for name, task in TASKS.items()}


@pytest.fixture(scope="module")
def pipes(tiny_dir: Path) -> Any:
    from tests.tiny.detection import TASKS

    made: dict[str, Any] = {}

    def pipe(name: str) -> Any:
        if name not in made:
            made[name] = pipeline(TASKS[name], model=str(tiny.build(name, tiny_dir)), device="cpu")
        return made[name]

    return pipe


@pytest.mark.parametrize("name", ["segformer", "detr-panoptic", "mask2former"])
@pytest.mark.parametrize("parameters", [{}, {"threshold": 0.0}, {"threshold": 0.2, "mask_threshold": 0.3}])
def test_segments_are_the_pipelines(
    stages: dict[str, Stages], pipes: Any, name: str, parameters: dict[str, Any]
) -> None:
    """Semantic, panoptic, universal: labels, scores and masks of the image's size."""
    for file, image in zip(FILES, PICTURES, strict=True):
        expected = pipes(name)(image, **parameters)
        given = answer(stages[name], file, parameters)
        assert [one["label"] for one in given] == [one["label"] for one in expected]
        for one, other in zip(given, expected, strict=True):
            assert_same(one["mask"].image, other["mask"])
            assert ("score" in one) is (other["score"] is not None)
            if "score" in one:
                assert one["score"] == pytest.approx(other["score"], abs=1e-5)


@pytest.mark.parametrize("subtask", ["instance", "semantic", "panoptic"])
def test_subtask_is_honoured_or_refused(stages: dict[str, Stages], pipes: Any, subtask: str) -> None:
    """Mask2Former does all three, Segformer one."""
    expected = pipes("mask2former")(PICTURES[0], subtask=subtask, threshold=0.0)
    given = answer(stages["mask2former"], FILES[0], {"subtask": subtask, "threshold": 0.0})
    assert [one["label"] for one in given] == [one["label"] for one in expected]
    if subtask != "semantic":
        with pytest.raises(InvalidInput, match="this model does not do"):
            stages["segformer"].prepare(FILES[:1], {"subtask": subtask})


@pytest.mark.parametrize("name", ["detr", "yolos"])
def test_boxes_are_the_pipelines(stages: dict[str, Stages], pipes: Any, name: str) -> None:
    """In pixels of the image, for any threshold."""
    for parameters in ({}, {"threshold": 0.0}, {"threshold": 0.3}):
        expected = [pipes(name)(image, **parameters) for image in PICTURES]
        assert_same([answer(stages[name], file, parameters) for file in FILES], expected)
    assert len(answer(stages[name], FILES[0], {"threshold": 0.0})) > 1


@pytest.mark.parametrize("name", ["segformer", "detr-panoptic", "mask2former", "detr", "yolos"])
def test_images_of_other_sizes_keep_their_answers(stages: dict[str, Stages], name: str) -> None:
    """Those that cannot be made equal do not meet; those that can share a forward."""
    jobs: list[Job] = [(FILES, {"threshold": 0.0}), (FILES[1:2], {"threshold": 0.2})]
    assert_same_among_strangers(stages[name], jobs)


def test_things_are_found_by_name_as_the_pipeline_finds_them(stages: dict[str, Stages], pipes: Any) -> None:
    """Each label by itself, the surest box first."""
    for file, image in zip(FILES, PICTURES, strict=True):
        for parameters in ({"threshold": 0.0}, {"threshold": 0.3, "top_k": 3}):
            expected = pipes("owlvit")(image, candidate_labels=LABELS, **parameters)
            given = answer(stages["owlvit"], file, {"candidate_labels": LABELS, **parameters})
            assert_same(given, expected)
    jobs: list[Job] = [
        (FILES[:2], {"candidate_labels": LABELS, "threshold": 0.0}),
        (FILES[:1], {"candidate_labels": ["ball"], "threshold": 0.1}),
    ]
    assert_same_among_strangers(stages["owlvit"], jobs)


# mask-generation


def test_masks_are_the_pipelines(stages: dict[str, Stages], tiny_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but its last step, which needs torchvision, is transformers' own; that one is our own in both."""
    folder = tiny.build("sam", tiny_dir)
    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForMaskGeneration.from_pretrained(folder).eval()
    pipe = MaskGenerationPipeline(model=model, image_processor=processor, device="cpu")
    seen: dict[str, Any] = {}

    def last_step(masks: Any, scores: Any, boxes: Any, threshold: float) -> Any:
        seen.update(masks=masks, scores=scores, boxes=boxes)
        kept = distinct(boxes.float(), scores, threshold)
        return [masks[index] for index in kept], scores[kept], None, None

    monkeypatch.setattr(processor, "post_process_for_mask_generation", last_step)
    loose = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "points_per_crop": 4}
    for file, image in zip(FILES[:2], PICTURES[:2], strict=True):
        for more in ({"points_per_batch": 5}, {"crops_n_layers": 1, "crops_nms_thresh": 0.4}):
            expected = pipe(image, **loose, **more)
            given = answer(stages["sam"], file, {**loose, **more})
            assert len(given) == len(expected["masks"]) > 0
            assert [one["score"] for one in given] == pytest.approx(expected["scores"].tolist(), abs=1e-5)
            for one, runs in zip(given, expected["masks"], strict=True):
                white = sum(runs["counts"][1::2])
                # Pixels that lie on the threshold fall to either side: the sums of a batch are rounded otherwise.
                assert abs(int((np.asarray(one["mask"].image) > 0).sum()) - white) <= 2


def test_points_of_other_images_share_a_forward(stages: dict[str, Stages]) -> None:
    """And each image is embedded once, however many points are asked about."""
    loose = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "points_per_crop": 4, "points_per_batch": 4}
    prepared = stages["sam"].prepare(FILES[:2], loose)
    assert len({item.group for items in prepared for item in items}) == 1
    jobs: list[Job] = [(FILES[:2], loose)]
    (together,) = answer_together(stages["sam"], jobs)
    for file, given in zip(FILES[:2], together, strict=True):
        alone = answer(stages["sam"], file, loose)
        assert [one["score"] for one in given] == pytest.approx([one["score"] for one in alone], abs=1e-5)


def test_too_many_points_are_refused(stages: dict[str, Stages]) -> None:
    """Before anything is computed."""
    with pytest.raises(InvalidInput, match="the limit is 16384"):
        stages["sam"].prepare(FILES[:1], {"points_per_crop": 128, "crops_n_layers": 3})


def test_boxes_that_overlap_a_better_one_go() -> None:
    """As torchvision's `nms`: intersection over union above the threshold."""
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 10, 10], [5, 0, 15, 10]]).float()
    scores = torch.tensor([0.8, 0.9, 0.3, 0.7, 0.6])
    assert distinct(boxes, scores, 0.5) == [1, 4, 2]
    assert distinct(boxes, scores, 0.9) == [1, 0, 4, 2]
    assert distinct(boxes[:0], scores[:0], 0.5) == []


# document-question-answering


def test_words_of_a_document_answer_as_in_the_pipeline(stages: dict[str, Stages], tiny_dir: Path) -> None:
    """For one window and for several, with each parameter."""
    folder = tiny.build("layoutlm", tiny_dir)
    pipe = pipeline("document-question-answering", model=str(folder), device="cpu")
    long = [[word, box] for word, box in BOXES * 8]
    for boxes in (BOXES, long):
        for parameters in ({}, {"top_k": 3, "max_answer_len": 4}, {"handle_impossible_answer": True, "doc_stride": 8}):
            expected = pipe(image=PICTURES[0], question=QUESTION, word_boxes=boxes, **parameters)
            given = answer(
                stages["layoutlm"], {"image": FILES[0], "question": QUESTION}, {"word_boxes": boxes, **parameters}
            )
            assert_same(given, [{**one, "score": float(one["score"])} for one in expected])
    jobs: list[Job] = [
        ([{"image": FILES[0], "question": QUESTION}], {"word_boxes": long}),
        ([{"image": FILES[0], "question": "who wrote it ?"}], {"word_boxes": BOXES, "top_k": 2}),
        ([{"image": FILES[1], "question": QUESTION}], {"word_boxes": BOXES}),
    ]
    assert_same_among_strangers(stages["layoutlm"], jobs)


def test_document_without_words_needs_tesseract(stages: dict[str, Stages]) -> None:
    """The sentence names it, and the other way."""
    with pytest.raises(NotAvailable, match="pytesseract.*word_boxes"):
        stages["layoutlm"].prepare([{"image": FILES[0], "question": QUESTION}], {})


def test_long_question_is_cut_where_it_is_asked_to_be(stages: dict[str, Stages]) -> None:
    """A parameter on which the pipeline itself fails."""
    long = {"image": FILES[0], "question": "what is the sum of the year and the total ?"}
    short = {"image": FILES[0], "question": "what is"}
    parameters = {"word_boxes": BOXES, "max_question_len": 2}
    assert answer(stages["layoutlm"], long, parameters) == answer(stages["layoutlm"], short, parameters)


def test_written_answer_is_what_the_model_writes(stages: dict[str, Stages], tiny_dir: Path) -> None:
    """Donut: up to the closing tag, alone and in company."""
    folder = tiny.build("donut", tiny_dir)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    for file, image in zip(FILES[:2], PICTURES[:2], strict=True):
        prompt = f"<s_docvqa><s_question>{QUESTION}</s_question><s_answer>"
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            tokens = model.generate(pixels, decoder_input_ids=ids, max_length=24)[0, ids.shape[1] :]
        text = tokenizer.decode(tokens).split("</s_answer>")[0]
        expected = " ".join(part for part in text.replace("<", " <").replace(">", "> ").split() if part[0] != "<")
        given = answer(stages["donut"], {"image": file, "question": QUESTION})
        assert given[0]["answer"].split() == expected.split()
    jobs: list[Job] = [([{"image": file, "question": QUESTION} for file in FILES[:3]], {})]
    (together,) = answer_together(stages["donut"], jobs)
    alone = [answer(stages["donut"], one) for one in jobs[0][0]]
    assert together == alone


@pytest.mark.parametrize("name", ["segformer", "detr", "yolos"])
def test_number_that_is_not_finite_is_an_error(stages: dict[str, Stages], name: str) -> None:
    """Never `null` in an answer, or a box at random."""
    (items,) = stages[name].prepare(FILES[:1], {})
    (output,) = stages[name].forward(items)
    broken = {key: torch.full_like(value, float("nan")) for key, value in output.items() if hasattr(value, "dtype")}
    with pytest.raises(BackendFailed, match="not finite"):
        stages[name].finish(items, [broken], {})


@pytest.mark.parametrize("name", ["segformer", "detr", "yolos", "owlvit", "sam", "layoutlm"])
def test_bad_file_is_named(stages: dict[str, Stages], name: str) -> None:
    """Which one of the list it was."""
    parameters: dict[str, Any] = {"candidate_labels": ["a"]} if name == "owlvit" else {}
    inputs: list[Any] = [FILES[0], b"no image"]
    if name == "layoutlm":
        inputs = [{"image": file, "question": QUESTION} for file in inputs]
        parameters = {"word_boxes": BOXES}
    with pytest.raises(InvalidInput, match=r"inputs\[1\]"):
        stages[name].prepare(inputs, parameters)
