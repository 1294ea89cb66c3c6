"""Every task that the table gives to the backends, computed by them and by torch from the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.catalog import ModelSpec
from app.declaration.backends import BACKENDS
from app.media.answers import Picture
from app.runtime.backends.exporting import TOLERANCES, longer
from app.runtime.loading import load_model
from app.runtime.model import TransformersModel
from app.tasks.samples import WAV
from tests.models import build as build_text
from tests.runtime.compute import answer, answer_together
from tests.tiny import build as build_tiny

TEXT_MODELS = {
    "sequence-classification": ("text-classification",),
    "nli": ("zero-shot-classification",),
    "cross-encoder": ("text-ranking",),
    "token-classification": ("token-classification",),
    "masked-lm": ("fill-mask",),
    "question-answering": ("question-answering",),
    "sentence-encoder": ("feature-extraction", "sentence-similarity"),
}
OTHER_MODELS = {
    "wav2vec2-masked-classifier": ("audio-classification",),
    "ast-classifier": ("audio-classification",),
    "wav2vec2-ctc": ("automatic-speech-recognition",),
    "wav2vec2-masked-ctc": ("automatic-speech-recognition",),
    "vit-classifier": ("image-classification",),
    "resnet-classifier": ("image-classification",),
    "vit-encoder": ("image-feature-extraction",),
    "dpt": ("depth-estimation",),
    "detr": ("object-detection",),
    "yolos": ("object-detection",),
    "segformer": ("image-segmentation",),
    "detr-panoptic": ("image-segmentation",),
    "mask2former": ("image-segmentation",),
}
MODELS = TEXT_MODELS | OTHER_MODELS
BACKENDS_HERE = ("onnx", "openvino")
PAIRS = [(backend, name) for backend in BACKENDS_HERE for name in MODELS]
PARAMETERS: dict[str, dict[str, Any]] = {
    "object-detection": {"threshold": 0.0},
    "image-segmentation": {"subtask": "semantic"},
}
"""With which the answers of random weights are not empty."""
TOLERANCE = TOLERANCES["float32"]  # of the largest number in an answer


def load(name: str, cache: Path, **declared: Any) -> TransformersModel:
    """The exports of one model are made once for all tests."""
    build = build_text if name in TEXT_MODELS else build_tiny
    spec = ModelSpec(id=name, model=str(build(name, cache)), tasks=MODELS[name], device="cpu", **declared)
    model = load_model(spec, num_threads=1, progress=lambda progress: None, cache_dir=cache / "made-here")
    assert isinstance(model, TransformersModel)
    return model


def answers(model: TransformersModel, task: str) -> list[Any]:
    """To two inputs of different lengths, each by itself and both together."""
    one_input, parameters = model.warm_up_request(task)
    parameters = parameters | PARAMETERS.get(task, {})
    inputs = [one_input, longer(one_input)]
    alone = [answer_together(model.stages(task), [([one], parameters)]) for one in inputs]
    return [*alone, answer_together(model.stages(task), [(inputs, parameters)])]


def assert_alike(found: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    """The same words and boxes, and numbers that differ by no more than that share of the largest beside them."""
    match expected:
        case dict():
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert_alike(found[key], value, tolerance)
        case list() if expected and not isinstance(expected[0], float):
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                assert_alike(one, other, tolerance)
        case float() | list() | np.ndarray():
            largest = max(1.0, float(np.abs(np.asarray(expected)).max(initial=0)))
            assert np.asarray(found) == pytest.approx(np.asarray(expected), abs=tolerance * largest)
        case Picture():
            assert_alike(np.asarray(found.image, float), np.asarray(expected.image, float), 0.01)
        case _:
            assert found == expected


def test_the_table_lists_what_is_tested_here() -> None:
    """No task is promised that no test computes."""
    tested = {task for tasks in MODELS.values() for task in tasks}
    promised = {task for backend, _ in PAIRS for task in BACKENDS[backend].tasks or ()}
    assert promised == tested
    for backend, name in PAIRS:
        assert set(MODELS[name]) <= (BACKENDS[backend].tasks or set())


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "name"), PAIRS)
def test_answers_are_those_of_torch(tiny_dir: Path, backend: str, name: str) -> None:
    """Alone and in a batch, of the size that the export was made with and of others."""
    exact, exported = load(name, tiny_dir), load(name, tiny_dir, backend=backend)
    assert exported.largest_difference is not None and exported.largest_difference <= TOLERANCE
    for task in MODELS[name]:
        assert_alike(answers(exported, task), answers(exact, task))
    assert exported.num_parameters == exact.num_parameters
    assert (exported.max_length, exported.embedding_size) == (exact.max_length, exact.embedding_size)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_transcriptions_are_those_of_torch(tiny_dir: Path, backend: str) -> None:
    """OpenAI's route asks a model of speech recognition in other words."""
    name = "wav2vec2-masked-ctc"
    exact, exported = load(name, tiny_dir), load(name, tiny_dir, backend=backend)
    for sound in (WAV, longer(WAV)):
        found, expected = (answer(model.stages("transcription"), sound) for model in (exported, exact))
        assert expected["text"]
        assert_alike(found, expected)
