"""text-to-audio against the pipeline, alone and among strangers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import SpeechT5HifiGan, TextToAudioPipeline, pipeline

from app.errors import InputTooLarge, InvalidInput, NotAvailable
from app.media.answers import Sound
from app.runtime.base import Stages
from tests.runtime.audio.test_speech import Leaving
from tests.runtime.compute import Job, answer, answer_together, load
from tests.tiny import build

MODELS = ("vits", "musicgen", "speecht5")
TEXTS = ["hello world", "a cat sleeps", "one two three four five"]
VOICE = [0.3, -0.2, 0.5, 0.1]


@pytest.fixture(scope="module")
def speak(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """transformers' own pipeline, from a seed on."""
    folder = tmp_path_factory.mktemp("speakers")
    pipes: dict[str, TextToAudioPipeline] = {}

    def spoken(name: str, text: str, seed: int, **options: Any) -> Any:
        place = build(name, folder)
        if name not in pipes:
            vocoder = SpeechT5HifiGan.from_pretrained(place / "vocoder").eval() if name == "speecht5" else None
            pipes[name] = pipeline("text-to-audio", model=str(place), device="cpu", vocoder=vocoder)
        torch.manual_seed(seed)
        return pipes[name](text, **options)

    return spoken


def options_of(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our parameters, and the pipeline's."""
    if name == "speecht5":
        return {"speaker_embeddings": VOICE}, {"forward_params": {"speaker_embeddings": torch.tensor([VOICE])}}
    return {}, {}


def assert_same(given: Sound, expected: Any) -> None:
    """Every sample: the same operations on the same shapes."""
    assert given.sampling_rate == expected["sampling_rate"]
    np.testing.assert_array_equal(given.samples, expected["audio"])


@pytest.mark.parametrize("name", MODELS)
def test_texts_are_spoken_as_by_the_pipeline(
    stages_of: Callable[[str], Stages], speak: Callable[..., Any], name: str
) -> None:
    """With the same seed, sample by sample; texts differ, seeds differ."""
    ours, theirs = options_of(name)
    sounds = [answer(stages_of(name), text, {**ours, "seed": 7}) for text in TEXTS]
    for text, given in zip(TEXTS, sounds, strict=True):
        assert_same(given, speak(name, text, 7, **theirs))
    if name != "musicgen":  # the tiny one draws the same tokens for all texts and seeds
        assert len({sound.samples.tobytes() for sound in sounds}) == len(TEXTS)
        other = answer(stages_of(name), TEXTS[0], {**ours, "seed": 8})
        assert other.samples.tobytes() != sounds[0].samples.tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_seeded_texts_keep_their_sounds_among_strangers(stages_of: Callable[[str], Stages], name: str) -> None:
    """Whoever else asks, with and without seeds."""
    stages = stages_of(name)
    jobs: list[Job] = [(TEXTS, {"seed": 7}), (TEXTS[:1], {}), (TEXTS[1:], {"seed": 9})]
    together = answer_together(stages, jobs)
    for job in (0, 2):
        inputs, parameters = jobs[job]
        for text, given in zip(inputs, together[job], strict=True):
            np.testing.assert_array_equal(given.samples, answer(stages, text, parameters).samples)


def test_texts_of_equal_length_share_a_forward_of_musicgen(stages_of: Callable[[str], Stages]) -> None:
    """Without chance each sounds as alone; to 1e-5, since a batch changes the order in which float32 are summed."""
    stages = stages_of("musicgen")
    texts = ["hello world", "a cat sleep", "another one"]
    parameters = {"do_sample": False, "max_new_tokens": 12}
    items = stages.prepare(texts, parameters)
    assert len({item.group for (item,) in items}) == 1
    (together,) = answer_together(stages, [(texts, parameters)])
    for text, given in zip(texts, together, strict=True):
        np.testing.assert_allclose(given.samples, answer(stages, text, parameters).samples, atol=1e-5)


def test_generation_keys_reach_musicgen(stages_of: Callable[[str], Stages], speak: Callable[..., Any]) -> None:
    """As the pipeline takes them; fewer tokens, a shorter sound."""
    options = {"max_new_tokens": 10, "temperature": 0.7, "top_k": 5}
    given = answer(stages_of("musicgen"), TEXTS[0], {**options, "seed": 3})
    assert_same(given, speak("musicgen", TEXTS[0], 3, generate_kwargs=options))
    assert len(given.samples) < len(answer(stages_of("musicgen"), TEXTS[0], {"seed": 3}).samples)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("vits", {"temperature": 0.5}, "temperature"),
    ("vits", {"speaker_id": 0}, "speaker_id"),
    ("vits", {"speaker_embeddings": VOICE}, "speaker_embeddings"),
    ("speecht5", {"speaker_embeddings": VOICE[:2]}, "speaker_embeddings"),
    ("speecht5", {"num_beams": 2}, "num_beams"),
    ("musicgen", {"speaker_embeddings": VOICE}, "speaker_embeddings"),
]


@pytest.mark.parametrize(("name", "parameters", "param"), WRONG, ids=str)
def test_what_a_model_cannot_do_is_refused_by_name(
    stages_of: Callable[[str], Stages], name: str, parameters: dict[str, Any], param: str
) -> None:
    """Before anything is spoken."""
    with pytest.raises(InvalidInput) as caught:
        stages_of(name).prepare(TEXTS[:1], parameters)
    assert caught.value.param == f"parameters.{param}"


@pytest.mark.parametrize("name", MODELS)
def test_a_text_beyond_the_limit_is_too_large(stages_of: Callable[[str], Stages], name: str) -> None:
    """It would be minutes of sound."""
    with pytest.raises(InputTooLarge) as caught:
        stages_of(name).prepare(["a", "word " * 1000], {})
    assert caught.value.param == "inputs[1]"


@pytest.mark.parametrize("name", MODELS)
def test_punctuation_is_spoken_or_refused(stages_of: Callable[[str], Stages], name: str) -> None:
    """A text of nothing that can be spoken is no error of the library."""
    try:
        assert answer(stages_of(name), "!?", {}).samples.ndim == 1
    except InvalidInput as error:
        assert error.param == "inputs[0]"


@pytest.mark.parametrize(("name", "after"), [("musicgen", 3), ("speecht5", 0)])
def test_speaking_ends_when_nobody_waits(stages_of: Callable[[str], Stages], name: str, after: int) -> None:
    """The watch is asked at every step; the tiny SpeechT5 has said everything after one."""
    stages = stages_of(name)
    ((item,),) = stages.prepare(TEXTS[:1], {})
    watch = Leaving({0}, after=after)
    (left,) = stages.forward([item], watch)
    assert left is None
    assert watch.num_steps == after + 1
    patient = Leaving(set(), after=0)
    stages.forward([item], patient)
    assert patient.num_steps > after


def test_a_missing_vocoder_is_named(tmp_path: Path) -> None:
    """Nothing is fetched that the entry does not name."""
    folder = build("speecht5", tmp_path)
    shutil.rmtree(folder / "vocoder")
    with pytest.raises(NotAvailable, match="vocoder"):
        load(folder, "text-to-audio").stages("text-to-audio")


def test_a_vocoder_of_its_own_folder_is_used(tmp_path: Path, stages_of: Callable[[str], Stages]) -> None:
    """As the entry declares it."""
    folder = build("speecht5", tmp_path)
    shutil.move(folder / "vocoder", tmp_path / "apart")
    stages = load(folder, "text-to-audio", vocoder=str(tmp_path / "apart")).stages("text-to-audio")
    expected = answer(stages_of("speecht5"), TEXTS[0], {"seed": 1})
    np.testing.assert_array_equal(answer(stages, TEXTS[0], {"seed": 1}).samples, expected.samples)
