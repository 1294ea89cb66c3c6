"""speech: text-to-audio with voices by their names, and speeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidInput
from app.media.answers import Sound
from app.media.tempo import stretch
from app.runtime.base import LoadedModel
from tests.runtime.compute import answer, load
from tests.tiny.audio import vits

TEXT = "the match ended two goals to one"
NUM_VOICES = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(voices(tmp_path_factory.mktemp("voices"), NUM_VOICES), "text-to-audio")


def voices(folder: Path, num_voices: int) -> Path:
    vits(folder, num_voices)
    return folder


def speak(model: LoadedModel, task: str = "speech", **parameters: Any) -> Sound:
    sound = answer(model.stages(task), TEXT, {"seed": 1, **parameters})
    assert isinstance(sound, Sound)
    return sound


def test_voices_are_named_by_their_numbers(model: LoadedModel) -> None:
    """The first without a name and by default; each speaks otherwise."""
    for name, number in (("0", 0), ("2", 2)):
        expected = speak(model, "text-to-audio", speaker_id=number)
        np.testing.assert_array_equal(speak(model, voice=name).samples, expected.samples)
    first, last = speak(model, "text-to-audio"), speak(model, voice="2")
    np.testing.assert_array_equal(speak(model, voice="default").samples, first.samples)
    assert first.samples.shape != last.samples.shape or not np.array_equal(first.samples, last.samples)


@pytest.mark.parametrize("voice", ["alloy", "3", "-1", "٣"])
def test_a_voice_that_is_not_there_is_refused(model: LoadedModel, voice: str) -> None:
    """With those that are."""
    with pytest.raises(InvalidInput, match="0 to 2") as caught:
        model.stages("speech").prepare([TEXT], {"voice": voice})
    assert caught.value.param == "parameters.voice"


def test_a_model_with_one_voice_has_it_by_any_name(tmp_path: Path) -> None:
    """OpenAI's names come from clients that know no others."""
    model = load(voices(tmp_path / "one", 1), "text-to-audio")
    np.testing.assert_array_equal(speak(model, voice="alloy").samples, speak(model).samples)


def test_speed_stretches_what_is_spoken(model: LoadedModel) -> None:
    """At the same pitch: the model's own sound, in less time."""
    plain, fast = speak(model), speak(model, speed=2.0)
    np.testing.assert_array_equal(fast.samples, stretch(plain.samples, plain.sampling_rate, 2.0))
    assert fast.samples.shape[-1] == round(plain.samples.shape[-1] / 2)
