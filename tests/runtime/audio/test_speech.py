"""automatic-speech-recognition against the pipeline, alone and among strangers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from transformers.pipelines.automatic_speech_recognition import _find_longest_common_sequence

from app.errors import InputTooLarge, InvalidInput
from app.runtime.base import Stages
from tests.runtime.audio.sounds import assert_same, sound, wav
from tests.runtime.compute import Job, answer, answer_together

pytestmark = [
    # WavLM hands torch a mask of numbers beside one of booleans.
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning"),
    # Times of words are spread over the tokens of a text, of which a short one has one.
    pytest.mark.filterwarnings("ignore:std.*degrees of freedom:UserWarning"),
]

CTC = ("wav2vec2-ctc", "wav2vec2-masked-ctc", "hubert-ctc", "wavlm-ctc")
GENERATING = ("whisper", "speech-to-text", "speech-encoder-decoder")
EXACT = 0.0
"""Texts are tokens and times are numbers of frames: they are equal or wrong."""
SOUNDS = [sound(0.5, 0), sound(0.83, 1), sound(1.2, 2), sound(1.5, 3)]
LONG = sound(12, 1)


@pytest.mark.parametrize("name", [*CTC, *GENERATING])
def test_sounds_are_written_as_by_the_pipeline(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any], name: str
) -> None:
    """Every family; different sounds have different texts."""
    expected = [pipe_of(name)(samples) for samples in SOUNDS]
    assert [answer(stages_of(name), wav(samples)) for samples in SOUNDS] == expected
    assert len({one["text"] for one in expected}) > 1


@pytest.mark.parametrize("name", [*CTC, "whisper"])
@pytest.mark.parametrize(
    "parameters", [{"chunk_length_s": 4.0}, {"chunk_length_s": 3.0, "stride_length_s": [1.0, 0.5]}]
)
def test_windows_are_merged_as_by_the_pipeline(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any], name: str, parameters: dict[str, Any]
) -> None:
    """Both numbers of strides."""
    expected = pipe_of(name)(LONG, ignore_warning=True, **parameters)
    assert answer(stages_of(name), wav(LONG), parameters) == expected


@pytest.mark.parametrize("name", ["speech-to-text", "speech-encoder-decoder"])
def test_what_windows_share_is_written_once(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any], name: str
) -> None:
    """Windows side by side are joined as by the pipeline; of those that overlap, the pipeline of transformers 5.23
    forgets the overlap, so that what lies in it stands there twice: here its own merging is used."""
    stages, pipe = stages_of(name), pipe_of(name)
    parameters: dict[str, Any] = {"chunk_length_s": 3.0, "stride_length_s": 0.0}
    apart = pipe(LONG, ignore_warning=True, **parameters)
    assert answer(stages, wav(LONG), parameters) == apart
    (items,) = stages.prepare([wav(LONG)], {"chunk_length_s": 3.0})
    tokens = [[output["tokens"] for output in stages.forward([item])][0] for item in items]
    merged = pipe.tokenizer.decode(_find_longest_common_sequence(tokens, pipe.tokenizer), skip_special_tokens=True)
    assert answer(stages, wav(LONG), {"chunk_length_s": 3.0}) == {"text": merged}


@pytest.mark.parametrize("name", [*CTC, *GENERATING])
def test_sounds_keep_their_texts_among_strangers(stages_of: Callable[[str], Stages], name: str) -> None:
    """Sounds of several lengths and windows of long ones in as few forwards as their groups allow."""
    jobs: list[Job] = [
        ([wav(samples) for samples in SOUNDS], {}),
        ([wav(LONG), wav(SOUNDS[2])], {"chunk_length_s": 4.0}),
        ([wav(sound(9, 4))], {"chunk_length_s": 4.0}),
    ]
    for (inputs, parameters), answers in zip(jobs, answer_together(stages_of(name), jobs), strict=True):
        for one, given in zip(inputs, answers, strict=True):
            assert given == answer(stages_of(name), one, parameters)


@pytest.mark.parametrize("name", CTC)
@pytest.mark.parametrize("timestamps", ["word", "char"])
@pytest.mark.parametrize("chunk_length_s", [None, 4.0])
def test_times_of_ctc_are_those_of_the_pipeline(
    stages_of: Callable[[str], Stages],
    pipe_of: Callable[[str], Any],
    name: str,
    timestamps: str,
    chunk_length_s: float | None,
) -> None:
    """Of words and letters, cut and uncut."""
    parameters: dict[str, Any] = {"return_timestamps": timestamps}
    if chunk_length_s:
        parameters["chunk_length_s"] = chunk_length_s
    expected = pipe_of(name)(LONG, **parameters)
    assert_same(answer(stages_of(name), wav(LONG), parameters), expected, EXACT)
    assert expected["chunks"]


WHISPER = [
    {"return_timestamps": True},
    {"return_timestamps": "word"},
    {"return_language": True},
    {"return_language": True, "return_timestamps": True},
    {"language": "de", "task": "translate"},
    {"language": "French"},
    {"num_beams": 1},
    {"num_beams": 2, "max_new_tokens": 5},
    {"num_beams": 1, "return_timestamps": "word", "chunk_length_s": 5.0},
    {"return_timestamps": True, "chunk_length_s": 5.0},
    {"num_beams": 1, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
]


@pytest.mark.parametrize("parameters", WHISPER, ids=str)
def test_parameters_of_whisper_do_what_they_do_in_the_pipeline(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any], parameters: dict[str, Any]
) -> None:
    """Times, languages and generation keys, alone and among strangers."""
    options = {name: value for name, value in parameters.items() if name != "chunk_length_s"}
    if "chunk_length_s" in parameters:
        options |= {"chunk_length_s": parameters["chunk_length_s"], "ignore_warning": True}
    pipe, stages = pipe_of("whisper"), stages_of("whisper")
    files = [LONG, SOUNDS[2]]
    expected = []
    for samples in files:
        expected.append(pipe(samples, **options))
        pipe.model.config._attn_implementation = "sdpa"  # times of words leave it changed
    assert_same([answer(stages, wav(samples), parameters) for samples in files], expected, EXACT)
    (together,) = answer_together(stages, [([wav(samples) for samples in files], parameters)])
    assert_same(together, expected, EXACT)


def test_long_sound_is_cut_into_windows_of_30_s(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any]
) -> None:
    """What is too long for Whisper is answered as by the pipeline with chunk_length_s 30; each window is an item."""
    long, stages = sound(65, 1), stages_of("whisper")
    (items,) = stages.prepare([wav(long)], {})
    assert len(items) == 3
    assert {item.cost for item in items} == {1500}
    expected = pipe_of("whisper")(long, chunk_length_s=30, ignore_warning=True)
    assert answer(stages, wav(long)) == expected


@pytest.mark.parametrize("timestamps", [None, True, "word"])
def test_whisper_goes_through_a_long_sound_by_itself_if_asked(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any], timestamps: Any
) -> None:
    """chunk_length_s 0: as the pipeline does, which wants times for it; alone and among strangers."""
    stages, pipe = stages_of("whisper"), pipe_of("whisper")
    parameters: dict[str, Any] = {"chunk_length_s": 0.0, "num_beams": 1}
    if timestamps:
        parameters["return_timestamps"] = timestamps
    files = [sound(65, 1), sound(62, 2), sound(31, 3), sound(10, 4)]
    expected = []
    for samples in files[:3]:
        made = pipe(samples, num_beams=1, return_timestamps=timestamps or True)
        pipe.model.config._attn_implementation = "sdpa"
        expected.append(made if timestamps else {"text": made["text"]})
    alone = [answer(stages, wav(samples), parameters) for samples in files]
    assert_same(alone[:3], expected, EXACT)
    (together,) = answer_together(stages, [([wav(samples) for samples in files], parameters)])
    assert_same(together, alone, EXACT)


def test_long_sound_of_ctc_is_cut_beyond_a_minute(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any]
) -> None:
    """Into 30 s, unless the request says otherwise; beyond two minutes that is an error."""
    stages, long = stages_of("wav2vec2-ctc"), sound(61, 1)
    (items,) = stages.prepare([wav(long)], {})
    assert len(items) == 3
    assert answer(stages, wav(long)) == pipe_of("wav2vec2-ctc")(long, chunk_length_s=30)
    (items,) = stages.prepare([wav(long)], {"chunk_length_s": 0.0})
    assert len(items) == 1
    with pytest.raises(InputTooLarge, match="121 s"):
        stages.prepare([wav(sound(121))], {"chunk_length_s": 0.0})


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("wav2vec2-ctc", {"return_timestamps": True}, "return_timestamps"),
    ("wav2vec2-ctc", {"num_beams": 2}, "num_beams"),
    ("wav2vec2-ctc", {"language": "en"}, "language"),
    ("wav2vec2-ctc", {"chunk_length_s": 1.0, "stride_length_s": 0.5}, "chunk_length_s"),
    ("wav2vec2-ctc", {"chunk_length_s": 0.001}, "chunk_length_s"),
    ("wav2vec2-ctc", {"chunk_length_s": 121.0}, "chunk_length_s"),
    ("wav2vec2-ctc", {"chunk_length_s": 0.02, "stride_length_s": 0.0}, "chunk_length_s"),
    ("speech-to-text", {"return_timestamps": "word"}, "return_timestamps"),
    ("speech-to-text", {"return_language": True}, "return_language"),
    ("speech-to-text", {"max_new_tokens": 100}, "max_new_tokens"),
    ("speech-to-text", {"temperature": [0.0, 0.5]}, "temperature"),
    ("whisper", {"return_timestamps": "char"}, "return_timestamps"),
    ("whisper", {"language": "klingon"}, "language"),
    ("whisper", {"language": "es"}, "language"),
    ("whisper", {"chunk_length_s": 31.0}, "chunk_length_s"),
    ("whisper", {"max_new_tokens": 61}, "max_new_tokens"),
    ("whisper", {"no_speech_threshold": 0.5}, "no_speech_threshold"),
]


@pytest.mark.parametrize(("name", "parameters", "param"), WRONG, ids=str)
def test_what_a_model_cannot_do_is_refused_by_name(
    stages_of: Callable[[str], Stages], name: str, parameters: dict[str, Any], param: str
) -> None:
    """Before anything is computed, with a sentence that names the parameter."""
    with pytest.raises(InvalidInput) as caught:
        stages_of(name).prepare([wav(LONG)], parameters)
    assert caught.value.param == f"parameters.{param}"
    assert str(caught.value).startswith(f"parameters.{param}")


@pytest.mark.parametrize("name", [*CTC, "speech-to-text", "speech-encoder-decoder"])
def test_too_short_a_sound_is_refused(stages_of: Callable[[str], Stages], name: str) -> None:
    """One sample, and one sample beyond a window, which adds nothing to the window before it."""
    stages = stages_of(name)
    with pytest.raises(InvalidInput, match="too short"):
        stages.prepare([wav(sound(1)[:1])], {})
    parameters = {"chunk_length_s": 0.9, "stride_length_s": 0.0}
    window = round(0.9 * 16_000 / 288) * 288 if name != "speech-to-text" else 14_400
    (items,) = stages.prepare([wav(sound(2)[: window + 1])], parameters)
    assert len(items) == 1 or name == "speech-encoder-decoder"


@pytest.mark.parametrize("name", [*CTC, *GENERATING])
def test_silence_and_a_short_click_have_a_text(stages_of: Callable[[str], Stages], name: str) -> None:
    """Whatever it is."""
    assert isinstance(answer(stages_of(name), wav(np.zeros(16_000, np.float32)))["text"], str)
    assert isinstance(answer(stages_of("whisper"), wav(sound(1)[:1]))["text"], str)


class Leaving:
    """A watch by which some clients leave after a number of steps."""

    def __init__(self, gone: set[int], after: int) -> None:
        self.gone, self.after, self.num_steps = gone, after, 0

    def step(self) -> None:
        self.num_steps += 1

    def is_cancelled(self, index: int) -> bool:
        return index in self.gone and self.num_steps > self.after

    def write(self, index: int, tokens: Sequence[int], logprobs: Sequence[float] = ()) -> None:
        pass


@pytest.mark.parametrize("name", GENERATING)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_generation_ends_when_nobody_waits(stages_of: Callable[[str], Stages], name: str, num_beams: int) -> None:
    """A row whose client leaves ends, its neighbours go on unharmed; when all leave, the forward ends."""
    stages = stages_of(name)
    parameters = {"num_beams": num_beams, "min_new_tokens": 10, "chunk_length_s": 4.0, "stride_length_s": 0.0}
    (items,) = stages.prepare([wav(LONG)], parameters)
    expected = list(stages.forward(items))
    given = list(stages.forward(items, Leaving({1}, after=2)))
    for row in (0, 2):
        assert given[row]["tokens"].tolist() == expected[row]["tokens"].tolist()
    assert given[1]["tokens"].tolist() != expected[1]["tokens"].tolist()
    watch = Leaving({0, 1, 2}, after=3)
    assert list(stages.forward(items, watch)) == [None] * 3
    assert watch.num_steps == 4


def test_a_seed_draws_the_same_text(stages_of: Callable[[str], Stages]) -> None:
    """Alone and beside strangers, and another seed another text."""
    stages = stages_of("whisper")
    parameters = {"temperature": 1.5, "num_beams": 1, "seed": 3}
    first = answer(stages, wav(LONG), parameters)
    strangers: list[Job] = [
        ([wav(LONG), wav(SOUNDS[1])], {"temperature": 1.5, "num_beams": 1}),
        ([wav(LONG)], parameters),
    ]
    assert answer_together(stages, strangers)[1] == [first]
    texts = {answer(stages, wav(LONG), {**parameters, "seed": seed})["text"] for seed in range(5)}
    assert len(texts) > 1


def test_whisper_tries_again_with_its_thresholds(
    stages_of: Callable[[str], Stages], pipe_of: Callable[[str], Any]
) -> None:
    """Two temperatures that draw nothing by chance: the pipeline's answer."""
    parameters: dict[str, Any] = {
        "temperature": [0.0, 0.0],
        "compression_ratio_threshold": 1.1,
        "num_beams": 1,
        "return_timestamps": True,
    }
    expected = pipe_of("whisper")(LONG, **{**parameters, "temperature": (0.0, 0.0)})
    assert_same(answer(stages_of("whisper"), wav(LONG), parameters), expected, EXACT)
