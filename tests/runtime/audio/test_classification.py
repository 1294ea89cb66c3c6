"""audio-classification against the pipeline, alone and among strangers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.errors import InputTooLarge, InvalidInput
from app.runtime.base import Stages
from tests.runtime.audio.sounds import assert_same, sound, wav
from tests.runtime.compute import answer, answer_together

MODELS = ("wav2vec2-classifier", "wav2vec2-masked-classifier", "ast-classifier", "whisper-classifier")
TOLERANCE = 1e-5
"""A batch changes the shapes of the matrix products, and with them the order in which float32 numbers are summed."""
SOUNDS = [sound(0.5, 0), sound(0.83, 1), sound(1.2, 2), sound(0.5, 3)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("parameters", [{}, {"top_k": 2}, {"function_to_apply": "sigmoid"}, {"top_k": 9}])
def test_sounds_are_labelled_as_by_the_pipeline(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any], name: str, parameters: dict[str, Any]
) -> None:
    """Every family, function and number of labels; unset, all labels."""
    for samples in SOUNDS:
        expected = pipe_of(name)(samples, **{"top_k": None, **parameters})
        assert_same(answer(stages_of(name), wav(samples), parameters), expected, TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
def test_sounds_keep_their_labels_among_strangers(stages_of: Callable[[str], Stages], name: str) -> None:
    """Sounds of several lengths in as few forwards as their groups allow."""
    jobs = [([wav(samples) for samples in SOUNDS], {}), ([wav(SOUNDS[2])], {"top_k": 1})]
    for (inputs, parameters), answers in zip(jobs, answer_together(stages_of(name), jobs), strict=True):
        for one, given in zip(inputs, answers, strict=True):
            assert_same(given, answer(stages_of(name), one, parameters), TOLERANCE)


@pytest.mark.parametrize(("name", "num_groups"), [("wav2vec2-classifier", 3), ("wav2vec2-masked-classifier", 1)])
def test_only_models_with_attention_masks_are_padded(
    stages_of: Callable[[str], Stages], name: str, num_groups: int
) -> None:
    """Others meet sounds of their own length alone."""
    items = stages_of(name).prepare([wav(samples) for samples in SOUNDS], {})
    assert len({item.group for (item,) in items}) == num_groups


@pytest.mark.parametrize("name", ["wav2vec2-classifier", "wav2vec2-masked-classifier"])
@pytest.mark.parametrize("num_samples", [1, 2, 10, 233])
def test_sound_below_the_receptive_field_is_refused(
    stages_of: Callable[[str], Stages], name: str, num_samples: int
) -> None:
    """The model's convolutions would raise; 234 samples are enough."""
    with pytest.raises(InvalidInput, match="too short") as caught:
        stages_of(name).prepare([wav(sound(1)), wav(sound(1)[:num_samples])], {})
    assert caught.value.param == "inputs[1]"
    assert len(answer(stages_of(name), wav(sound(1)[:234]))) == 4


@pytest.mark.parametrize("name", ["ast-classifier", "whisper-classifier"])
def test_one_sample_is_refused_or_answered(stages_of: Callable[[str], Stages], name: str) -> None:
    """Never an error of the library."""
    try:
        assert len(answer(stages_of(name), wav(sound(1)[:1]))) == 4
    except InvalidInput as error:
        assert "too short" in str(error)


@pytest.mark.parametrize("name", MODELS)
def test_silence_has_labels(stages_of: Callable[[str], Stages], name: str) -> None:
    """Numbers, not NaN."""
    labels = answer(stages_of(name), wav(np.zeros(8000, np.float32)))
    assert sum(label["score"] for label in labels) == pytest.approx(1, abs=1e-4)


def test_sound_of_minutes_is_too_large(stages_of: Callable[[str], Stages]) -> None:
    """Attention over it would cost gigabytes; models that cut by themselves take it."""
    long = wav(sound(121))
    with pytest.raises(InputTooLarge, match="121 s"):
        stages_of("wav2vec2-classifier").prepare([long], {})
    assert len(answer(stages_of("ast-classifier"), long)) == 4
