"""The image and video tasks against `transformers.pipeline` on the same weights, alone and among strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForImageToImage, AutoTokenizer, pipeline

from app.errors import BackendFailed, InputTooLarge, InvalidInput
from app.media.answers import Picture
from app.runtime.base import Stages
from tests import tiny
from tests.runtime.compute import Job, answer, answer_together, load
from tests.runtime.vision.images import film, picture, png

TOLERANCE = 1e-5
"""Rows of one forward are summed in another order: float32 rounding, on numbers around 1."""
PICTURES = [picture(64, 48, 1), picture(64, 48, 2), picture(31, 77, 3), picture(200, 150, 4)]
FILES = [png(one) for one in PICTURES]
LABELS = ["a cat", "the dog", "a small house in paris", "ball"]


@pytest.fixture(scope="module")
def stages(tiny_dir: Path) -> dict[str, Stages]:
    from tests.tiny.vision import TASKS

    return {name: load(tiny.build(name, tiny_dir), task).stages(task) for name, task in TASKS.items()}


@pytest.fixture(scope="module")
def pipes(tiny_dir: Path) -> Any:
    """Made when first asked for: the folder's name -> its pipeline."""
    from tests.tiny.vision import TASKS

    made: dict[str, Any] = {}

    def pipe(name: str) -> Any:
        if name not in made:
            made[name] = pipeline(TASKS[name], model=str(tiny.build(name, tiny_dir)), device="cpu")
        return made[name]

    return pipe


def assert_same(given: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    """Equal but for numbers and pixels, which are as near as the tolerance (pixels: one step of 255)."""
    if isinstance(expected, Picture):
        assert isinstance(given, Picture)
        expected, given = expected.image, given.image
    if isinstance(expected, Image.Image):
        assert given.size == expected.size
        assert np.abs(np.asarray(given).astype(int) - np.asarray(expected).astype(int)).max() <= 1
    elif isinstance(expected, dict):
        assert given.keys() == expected.keys()
        for name in expected:
            assert_same(given[name], expected[name], tolerance)
    elif isinstance(expected, list):
        assert len(given) == len(expected)
        for one, other in zip(given, expected, strict=True):
            assert_same(one, other, tolerance)
    elif isinstance(expected, np.ndarray | torch.Tensor):
        assert np.allclose(np.asarray(given), np.asarray(expected), atol=tolerance, rtol=tolerance)
    elif isinstance(expected, float):
        assert given == pytest.approx(expected, abs=tolerance, rel=tolerance)
    else:
        assert given == expected


def assert_same_among_strangers(stages: Stages, jobs: list[Job]) -> None:
    for (inputs, parameters), answers in zip(jobs, answer_together(stages, jobs), strict=True):
        for one_input, given in zip(inputs, answers, strict=True):
            assert_same(given, answer(stages, one_input, parameters))


# image-classification


@pytest.mark.parametrize("name", ["vit-classifier", "resnet-classifier"])
@pytest.mark.parametrize("parameters", [{}, {"top_k": 2}, {"function_to_apply": "sigmoid"}, {"top_k": 100}])
def test_image_classification_answers_as_the_pipeline(
    stages: dict[str, Stages], pipes: Any, name: str, parameters: dict[str, Any]
) -> None:
    """Images of any size, best label first, five of them unless said otherwise."""
    expected = pipes(name)(PICTURES, **parameters)
    given = [answer(stages[name], file, parameters) for file in FILES]
    assert_same(given, expected)
    assert len({str(labels) for labels in given}) == len(FILES)


def test_classified_images_keep_their_answers_among_strangers(stages: dict[str, Stages]) -> None:
    """All sizes share one forward, because the processor makes them equal; parameters are each request's own."""
    jobs: list[Job] = [(FILES, {}), (FILES[:2], {"top_k": 1, "function_to_apply": "none"})]
    groups = {items[0].group for inputs, _ in jobs for items in stages["vit-classifier"].prepare(inputs, {})}
    assert len(groups) == 1
    assert_same_among_strangers(stages["vit-classifier"], jobs)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_number_that_is_not_finite_is_an_error(stages: dict[str, Stages], number: float) -> None:
    """Never `null` in an answer."""
    (items,) = stages["vit-classifier"].prepare(FILES[:1], {})
    with pytest.raises(BackendFailed, match="not finite"):
        stages["vit-classifier"].finish(items, [{"logits": torch.full((1, 6), number)}], {})


# image-feature-extraction, and texts in the same space


def test_image_vectors_are_the_pipelines(stages: dict[str, Stages], pipes: Any) -> None:
    """One per patch, or pooled."""
    for pool in (False, True):
        expected = [np.asarray(one)[0] for one in pipes("vit-encoder")(PICTURES, pool=pool)]
        assert_same([answer(stages["vit-encoder"], file, {"pool": pool}) for file in FILES], expected)
    assert_same_among_strangers(stages["vit-encoder"], [(FILES, {"pool": True}), (FILES, {})])


def test_pooled_vector_that_a_model_does_not_make_is_refused(tiny_dir: Path) -> None:
    """In words, not by an error of the model."""
    model = AutoModel.from_pretrained(tiny.build("vit-encoder", tiny_dir), add_pooling_layer=False)
    loaded = load(tiny_dir / "vit-encoder", "image-feature-extraction").stages("image-feature-extraction")
    loaded._model = model.eval()  # type: ignore[attr-defined]  # a checkpoint without a pooler
    with pytest.raises(InvalidInput, match="parameters.pool"):
        answer(loaded, FILES[0], {"pool": True})


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_images_and_texts_have_one_space(tiny_dir: Path, name: str) -> None:
    """The vectors of CLIP-like models are those of the model's own methods."""
    folder = tiny.build(name, tiny_dir)
    implied = ("image-feature-extraction", "feature-extraction")
    model = load(folder, "zero-shot-image-classification", implied_tasks=implied)
    of_images, of_texts = model.stages("image-feature-extraction"), model.stages("feature-extraction")
    plain, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": 64} if name == "siglip" else {}
    for text in LABELS:
        inputs = tokenizer(text, return_tensors="pt", **padding)
        with torch.inference_mode():
            expected = plain.get_text_features(**inputs)
        expected = expected if isinstance(expected, torch.Tensor) else expected.pooler_output
        assert_same(answer(of_texts, text), expected[0])
    assert_same_among_strangers(of_texts, [(LABELS, {}), (LABELS[:1], {"normalize": True})])
    assert_same_among_strangers(of_images, [(FILES, {})])
    assert answer(of_images, FILES[0]).shape == answer(of_texts, "a").shape
    assert np.linalg.norm(answer(of_texts, "a", {"normalize": True})) == pytest.approx(1)
    with pytest.raises(InvalidInput, match="parameters.pooling"):
        of_texts.prepare(["a"], {"pooling": "mean"})


# zero-shot-image-classification


@pytest.mark.parametrize("name", ["clip", "siglip"])
@pytest.mark.parametrize("parameters", [{}, {"hypothesis_template": "{} in london"}])
def test_zero_shot_scores_are_the_pipelines(
    stages: dict[str, Stages], pipes: Any, name: str, parameters: dict[str, Any]
) -> None:
    """Although each label's vector is computed once, and not with every image."""
    expected = pipes(name)(PICTURES, candidate_labels=LABELS, **parameters)
    given = [answer(stages[name], file, {"candidate_labels": LABELS, **parameters}) for file in FILES]
    assert_same(given, expected)
    again = [answer(stages[name], file, {"candidate_labels": LABELS[::-1], **parameters}) for file in FILES]
    assert_same(again, expected)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_images_with_other_labels_share_a_forward(stages: dict[str, Stages], name: str) -> None:
    """Each is scored against its own."""
    jobs: list[Job] = [
        (FILES, {"candidate_labels": LABELS}),
        (FILES[1:3], {"candidate_labels": ["a river in france", "movies"], "hypothesis_template": "{}"}),
        (FILES[:1], {"candidate_labels": ["one"]}),
    ]
    assert_same_among_strangers(stages[name], jobs)


# depth-estimation, image-to-image


@pytest.mark.parametrize("name", ["dpt", "glpn"])
def test_depth_is_the_pipelines(stages: dict[str, Stages], pipes: Any, name: str) -> None:
    """Of the image's own size, as numbers and as a picture."""
    for file, image in zip(FILES, PICTURES, strict=True):
        if name == "glpn" and min(image.size) < 32:  # transformers makes nothing of it
            with pytest.raises(InvalidInput, match="31 x 77 pixels"):
                answer(stages[name], file)
            continue
        expected = pipes(name)(image)
        given = answer(stages[name], file)
        assert given["predicted_depth"].shape == (image.height, image.width)
        assert_same(given["predicted_depth"], expected["predicted_depth"], 1e-4)
        assert_same(given["depth"].image, expected["depth"])
    large = [FILES[0], FILES[1], FILES[3]]
    assert_same_among_strangers(stages[name], [(large, {}), (FILES[:1], {})])


def test_flat_depth_is_black(stages: dict[str, Stages]) -> None:
    """transformers divides by zero there."""
    (items,) = stages["dpt"].prepare(FILES[:1], {})
    flat = {"predicted_depth": torch.full((1, 32, 32), 2.0)}
    given = stages["dpt"].finish(items, [flat], {})
    assert np.asarray(given["depth"].image).max() == 0


def test_enlarged_image_is_what_the_model_makes(stages: dict[str, Stages], tiny_dir: Path) -> None:
    """Twice as large, padded sides included as the model made them; or of the size asked for."""
    from tests.tiny.vision import processor_of

    model = AutoModelForImageToImage.from_pretrained(tiny.build("swin2sr", tiny_dir)).eval()
    processor = processor_of("Swin2SRImageProcessor").from_pretrained(tiny_dir / "swin2sr")
    for file, image in zip(FILES[:3], PICTURES[:3], strict=True):
        with torch.inference_mode():
            output = model(**processor(images=image, return_tensors="pt")).reconstruction
        expected = (output[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)
        assert_same(answer(stages["swin2sr"], file), Picture(Image.fromarray(expected)))
    sized = answer(stages["swin2sr"], FILES[0], {"target_size": {"width": 30, "height": 20}})
    assert sized.image.size == (30, 20)
    assert_same_among_strangers(stages["swin2sr"], [(FILES[:3], {})])


# keypoint-matching, video-classification


def test_matches_are_the_pipelines(stages: dict[str, Stages], pipes: Any) -> None:
    """Of images of different sizes, in each one's own pixels."""
    pairs = [(0, 1), (2, 3), (1, 1)]
    for first, second in pairs:
        for threshold in (0.0, 0.2):
            expected = pipes("superglue")((PICTURES[first], PICTURES[second]), threshold=threshold)
            given = answer(stages["superglue"], [FILES[first], FILES[second]], {"threshold": threshold})
            assert_same(given, [dict(match) for match in expected])
    assert len(answer(stages["superglue"], [FILES[1], FILES[1]])) > 0
    assert_same_among_strangers(stages["superglue"], [([[FILES[a], FILES[b]] for a, b in pairs], {})])


def test_video_labels_are_the_pipelines(stages: dict[str, Stages], pipes: Any, tmp_path: Path) -> None:
    """A GIF, from its file; of the frames that are asked for."""
    films = [film(8, 24, seed) for seed in range(3)]
    for number, data in enumerate(films):
        path = tmp_path / f"{number}.gif"
        path.write_bytes(data)
        for parameters in ({}, {"frame_sampling_rate": 2, "top_k": 2}):
            given = answer(stages["videomae"], data, parameters)
            # FFmpeg and Pillow make the same colours of a GIF's palette.
            assert_same(given, pipes("videomae")(str(path), **parameters), 1e-4)
    assert_same_among_strangers(stages["videomae"], [(films, {}), (films[:1], {"frame_sampling_rate": 2})])


def test_number_of_frames_that_a_model_cannot_take_is_refused(stages: dict[str, Stages]) -> None:
    """By name, whatever the model's own error says."""
    for num_frames in (3, 1000):
        with pytest.raises(InvalidInput, match="num_frames"):
            answer(stages["videomae"], film(), {"num_frames": num_frames})


# Files that are not what they should be


@pytest.mark.parametrize("name", ["vit-classifier", "clip", "swin2sr", "dpt", "glpn", "vit-encoder", "superglue"])
def test_bad_file_is_named(stages: dict[str, Stages], name: str) -> None:
    """Which one of the list it was."""
    parameters = {"candidate_labels": ["a"]} if name == "clip" else {}
    bad = b"no image" if name != "superglue" else [FILES[0], b"no image"]
    good = FILES[0] if name != "superglue" else [FILES[0], FILES[1]]
    with pytest.raises(InvalidInput, match=r"inputs\[1\]"):
        stages[name].prepare([good, bad], parameters)


def test_image_over_the_limit_is_refused_before_it_is_decoded(tiny_dir: Path) -> None:
    """`media.max_pixels` reaches the stages."""
    from app.media.limits import MediaLimits

    small = load(
        tiny.build("vit-classifier", tiny_dir), "image-classification", media=MediaLimits(max_pixels=1000)
    ).stages("image-classification")
    with pytest.raises(InputTooLarge, match=r"inputs\[0\]"):
        small.prepare(FILES[:1], {})


def test_tiny_images_are_answered_or_refused(stages: dict[str, Stages]) -> None:
    """One pixel is an image."""
    for name in ("vit-classifier", "vit-encoder", "dpt", "glpn", "swin2sr"):
        try:
            assert answer(stages[name], png(picture(1, 1))) is not None
        except InvalidInput as refused:
            assert refused.param is not None
