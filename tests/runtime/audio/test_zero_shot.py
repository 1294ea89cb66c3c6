"""zero-shot-audio-classification against the pipeline, alone and among strangers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.errors import InputTooLarge
from app.runtime.audio.zero_shot import MAX_CACHED_TEXTS
from app.runtime.base import Stages
from tests.runtime.audio.sounds import assert_same, sound, wav
from tests.runtime.compute import Job, answer, answer_together

TOLERANCE = 1e-5
"""Labels padded to others' lengths, and sounds in other batches, change the order in which float32 are summed."""
LABELS = ["dog", "a siren far away", "rain", "speech"]
SOUNDS = [sound(0.3, 0), sound(0.83, 1), sound(2.5, 2), sound(0.3, 3)]


@pytest.mark.parametrize("template", [None, "{} is heard."])
def test_labels_are_scored_as_by_the_pipeline(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any], template: str | None
) -> None:
    """Short sounds and such that are longer than the model hears; different sounds have different scores."""
    options: dict[str, Any] = {"candidate_labels": LABELS}
    if template is not None:
        options["hypothesis_template"] = template
    answers = []
    for samples in SOUNDS:
        np.random.seed(0)  # what the extractor draws from
        expected = pipe_of("clap")(samples, **options)
        answers.append(answer(stages_of("clap"), wav(samples), options))
        assert_same(answers[-1], expected, TOLERANCE)
    assert len({one[0]["score"] for one in answers}) == len(SOUNDS)


def test_sounds_keep_their_scores_among_strangers(stages_of: Callable[[str], Stages]) -> None:
    """With labels of their own, some of them shared, some twice."""
    jobs: list[Job] = [
        ([wav(samples) for samples in SOUNDS], {"candidate_labels": LABELS}),
        ([wav(SOUNDS[1])], {"candidate_labels": ["rain", "a long label that is not like the others"]}),
        ([wav(SOUNDS[2])], {"candidate_labels": ["rain", "dog", "rain"]}),
    ]
    stages = stages_of("clap")
    items = [item for inputs, parameters in jobs for (item,) in stages.prepare(inputs, parameters)]
    assert len({item.group for item in items}) == 1
    for (inputs, parameters), answers in zip(jobs, answer_together(stages, jobs), strict=True):
        for one, given in zip(inputs, answers, strict=True):
            assert_same(given, answer(stages, one, parameters), TOLERANCE)


def test_a_label_is_computed_once(stages_of: Callable[[str], Stages], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second request with known labels computes none, and no more are kept than there is room for."""
    stages: Any = stages_of("clap")
    asked: list[int] = []
    encode = stages._model.get_text_features

    def counted(**inputs: Any) -> Any:
        asked.append(len(inputs["input_ids"]))
        return encode(**inputs)

    monkeypatch.setattr(stages._model, "get_text_features", counted)
    parameters = {"candidate_labels": ["one of a kind", "two of a kind"]}
    first = answer(stages, wav(SOUNDS[0]), parameters)
    assert asked == [2]
    assert answer(stages, wav(SOUNDS[0]), parameters) == first
    assert answer(stages, wav(SOUNDS[1]), {"candidate_labels": ["one of a kind", "three of them"]})
    assert asked == [2, 1]
    many = {"candidate_labels": [f"label {number}" for number in range(MAX_CACHED_TEXTS + 10)]}
    assert len(answer(stages, wav(SOUNDS[0]), many)) == MAX_CACHED_TEXTS + 10
    assert len(stages._vectors) == MAX_CACHED_TEXTS


def test_a_label_beyond_the_limit_is_named(stages_of: Callable[[str], Stages]) -> None:
    """As a parameter, not as an input."""
    with pytest.raises(InputTooLarge, match="tokens") as caught:
        stages_of("clap").prepare([wav(SOUNDS[0])], {"candidate_labels": ["a", "word " * 100]})
    assert caught.value.param == "parameters.candidate_labels"
    assert str(caught.value).startswith("parameters.candidate_labels: a label has ")


@pytest.mark.parametrize("num_samples", [1, 100])
def test_short_sounds_and_silence_have_scores(stages_of: Callable[[str], Stages], num_samples: int) -> None:
    """The extractor repeats them until they fill its window."""
    options = {"candidate_labels": LABELS}
    for samples in (sound(1)[:num_samples], np.zeros(num_samples, np.float32)):
        scores = answer(stages_of("clap"), wav(samples), options)
        assert sum(one["score"] for one in scores) == pytest.approx(1, abs=1e-4)
