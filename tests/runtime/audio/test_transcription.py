"""transcription against the pipeline: windows, times, languages, prompts, and what a stream reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidInput
from app.runtime.audio.transcription import TranscriptionStages
from app.runtime.audio.windows import cut
from app.runtime.base import Item
from app.runtime.generation.request import Advance, Ranked
from tests.runtime.audio.sounds import RATE, sound, wav
from tests.runtime.compute import Job, answer, answer_together, load
from tests.tiny import build

pytestmark = pytest.mark.filterwarnings("ignore:std.*degrees of freedom:UserWarning")

MODELS = ("wav2vec2-ctc", "wav2vec2-masked-ctc", "whisper", "speech-to-text", "speech-encoder-decoder")
WHISPER = "whisper"
LONG_S = 36
LONG = sound(LONG_S, 1)
SOUNDS = [sound(0.83, 1), sound(5, 2)]
TIMED = {"has_segments": True, "has_words": True}
TOLERANCE = 1e-4
"""Of log-probabilities: float32, in batches of other sizes."""

StagesOf = Callable[[str], TranscriptionStages]


@pytest.fixture(scope="session")
def transcription_of(tmp_path_factory: pytest.TempPathFactory) -> StagesOf:
    folder = tmp_path_factory.mktemp("transcription")

    @cache
    def stages(name: str) -> TranscriptionStages:
        made = load(build(name, folder), "automatic-speech-recognition").stages("transcription")
        assert isinstance(made, TranscriptionStages)
        return made

    return stages


def text_by_pipeline(pipe: Any, samples: Any, name: str, **options: Any) -> str:
    """Greedy, and each sound heard once: a model that draws times by chance would go on behind them."""
    keywords: dict[str, Any] = {} if name.endswith("ctc") else {"num_beams": 1}
    if name == WHISPER:
        keywords |= {"task": "transcribe", "language": "en", "force_unique_generate_call": True, **options}
    return str(pipe(samples, **keywords)["text"])


@pytest.mark.parametrize("name", MODELS)
def test_texts_are_those_of_the_pipeline(transcription_of: StagesOf, pipe_of: Callable[[str], Any], name: str) -> None:
    """Of every kind of model, and those of a long sound's windows joined."""
    stages, pipe = transcription_of(name), pipe_of(name)
    parameters = {"language": "en"} if name == WHISPER else {}
    for samples in SOUNDS:
        assert answer(stages, wav(samples), parameters)["text"] == text_by_pipeline(pipe, samples, name).strip()
    windows = [text_by_pipeline(pipe, one.samples, name) for one in cut(LONG, RATE, param="")]
    assert len(windows) == 2
    told = answer(stages, wav(LONG), parameters)
    assert told["text"] == ("" if name == WHISPER else " ").join(one for one in windows if one).strip() != ""
    assert told["duration_s"] == LONG_S


@pytest.mark.parametrize("name", MODELS)
def test_sounds_keep_their_texts_among_strangers(transcription_of: StagesOf, name: str) -> None:
    """Windows of several sounds in as few forwards as their groups allow, whatever their languages."""
    stages = transcription_of(name)
    parameters: list[dict[str, Any]] = [{"language": "en"}, {"language": "fr"}] if name == WHISPER else [{}, {}]
    files = [wav(one) for one in (SOUNDS if name.startswith("speech") else [LONG, *SOUNDS])]
    jobs: list[Job] = [(files, given) for given in parameters]
    for (inputs, given), answers in zip(jobs, answer_together(stages, jobs), strict=True):
        for one, told in zip(inputs, answers, strict=True):
            assert told == answer(stages, one, given)


def test_times_of_whisper_are_those_of_the_pipeline(transcription_of: StagesOf, pipe_of: Callable[[str], Any]) -> None:
    """Segments begin where the pipeline's chunks do, and all times are within the sound."""
    options = {"return_timestamps": True, "num_beams": 1, "language": "en", "task": "transcribe"}
    for samples in SOUNDS:
        told = answer(transcription_of(WHISPER), wav(samples), {**TIMED, "language": "en"})
        chunks = pipe_of(WHISPER)(samples, force_unique_generate_call=True, **options)["chunks"]
        assert "".join(one["text"] for one in told["segments"]) == "".join(one["text"] for one in chunks)
        assert told["text"] == "".join(one["text"] for one in told["segments"]).strip()
        seconds = len(samples) / RATE
        begins = [min(one["timestamp"][0], seconds) for one in chunks if one["timestamp"][0] is not None]
        assert begins and set(begins) <= {one["start_s"] for one in told["segments"]}
        assert [one["text"] for one in told["words"]] and all(
            0 <= one["start_s"] <= one["end_s"] <= seconds for one in (*told["words"], *told["segments"])
        )


def test_segments_say_how_sure_the_model_is(transcription_of: StagesOf) -> None:
    """Tokens with the mean of their log-probabilities, which the tokens' own are, and the chance of silence."""
    stages = transcription_of(WHISPER)
    told = answer(stages, wav(SOUNDS[1]), {"has_segments": True, "has_logprobs": True, "language": "en"})
    logprobs = iter(one["logprob"] for one in told["tokens"])
    for segment in told["segments"]:
        own = [next(logprobs) for _ in segment["tokens"]]
        assert segment["mean_logprob"] == pytest.approx(sum(own) / len(own))
        assert 0 < segment["no_speech_prob"] < 1 and segment["seek_s"] == 0
    assert next(logprobs, None) is None
    assert "".join(one["text"] for one in told["tokens"]) == told["text"]


def test_log_probabilities_are_the_models(transcription_of: StagesOf, pipe_of: Callable[[str], Any]) -> None:
    """Those of plain forwards over the same tokens, among the tokens that may be written."""
    import torch

    stages, model = transcription_of(WHISPER), pipe_of(WHISPER).model
    (items,) = stages.prepare([wav(SOUNDS[1])], {"has_logprobs": True, "language": "en"})
    (heard,) = stages.forward(items)
    config = model.generation_config
    begin = [
        config.decoder_start_token_id,
        config.lang_to_id["<|en|>"],
        config.task_to_id["transcribe"],
        config.no_timestamps_token_id,
    ]
    with torch.inference_mode():
        logits = model(
            input_features=items[0].features.row["input_features"],
            decoder_input_ids=torch.tensor([begin + heard.tokens[:-1]]),
        ).logits[0, len(begin) - 1 :]
    logits = logits.clone()
    logits[:, config.suppress_tokens] = -torch.inf
    logits[0, config.begin_suppress_tokens] = -torch.inf
    expected = logits.log_softmax(-1)[range(len(heard.tokens)), heard.tokens].tolist()
    assert heard.logprobs == pytest.approx(expected, abs=TOLERANCE)


def test_windows_of_a_long_sound_have_their_places(transcription_of: StagesOf) -> None:
    """In the seconds of the whole; those of a CTC model are made of its words."""
    for name in (WHISPER, "wav2vec2-ctc"):
        told = answer(transcription_of(name), wav(LONG), TIMED)
        begins = [one.begin / RATE for one in cut(LONG, RATE, param="")]
        assert sorted({one["seek_s"] for one in told["segments"]}) == begins
        times = [one["start_s"] for one in told["segments"]]
        assert times == sorted(times) and 0 < times[-1] <= LONG_S
        assert all(one["end_s"] <= LONG_S for one in told["words"]) and told["words"][-1]["start_s"] >= begins[-1]


def test_language_is_heard_once_for_a_sound(transcription_of: StagesOf, pipe_of: Callable[[str], Any]) -> None:
    """In the first of its windows, as the model detects it; one that is named is not listened for."""
    stages, pipe = transcription_of(WHISPER), pipe_of(WHISPER)
    features = pipe.feature_extractor(cut(LONG, RATE, param="")[0].samples, sampling_rate=RATE, return_tensors="pt")
    token = pipe.tokenizer.convert_ids_to_tokens(int(pipe.model.detect_language(features.input_features)[0]))
    names = {"<|en|>": "english", "<|de|>": "german", "<|fr|>": "french"}
    assert answer(stages, wav(LONG))["language"] == names[token]
    for given in ("de", "German", "<|de|>"):
        assert answer(stages, wav(SOUNDS[0]), {"language": given})["language"] == "german"
    assert "language" not in answer(transcription_of("wav2vec2-ctc"), wav(SOUNDS[0]))


def test_translation_prompt_and_temperature_change_the_text(transcription_of: StagesOf) -> None:
    """Each is honoured; a seed draws the same text again; a prompt that is too long is cut at its beginning."""
    stages, file = transcription_of(WHISPER), wav(sound(12, 1))
    plain = answer(stages, file, {"language": "en"})["text"]
    assert answer(stages, file, {"language": "en", "translates": True})["text"] != plain
    assert answer(stages, file, {"language": "en", "prompt": "hello"})["text"] != plain
    drawn = [answer(stages, wav(SOUNDS[1]), {"temperature": 1.0, "seed": seed, **TIMED})["text"] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    many = [answer(stages, file, {"language": "en", "prompt": "x" * length + "hello"}) for length in (100, 200)]
    assert many[0]["text"] == many[1]["text"] and many[0]["num_prompt_tokens"] == 31
    assert answer(stages, wav(SOUNDS[1]), {"max_new_tokens": 3})["num_tokens"] == 3


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("wav2vec2-ctc", {"language": "en"}, "language"),
    ("wav2vec2-ctc", {"prompt": "a"}, "prompt"),
    ("wav2vec2-ctc", {"translates": True}, "task"),
    ("wav2vec2-ctc", {"temperature": 0.5}, "temperature"),
    ("wav2vec2-ctc", {"seed": 0}, "seed"),
    ("wav2vec2-ctc", {"has_logprobs": True}, "has_logprobs"),
    ("speech-to-text", {"has_segments": True}, "return_timestamps"),
    ("speech-to-text", {"has_words": True}, "return_timestamps"),
    ("speech-to-text", {"translates": True}, "task"),
    ("speech-to-text", {"prompt": "a"}, "prompt"),
    ("whisper", {"language": "klingon"}, "language"),
    ("whisper", {"prompt": "<|en|>"}, "prompt"),
    ("whisper", {"max_new_tokens": 61}, "max_new_tokens"),
]


@pytest.mark.parametrize(("name", "parameters", "param"), WRONG, ids=str)
def test_what_a_model_cannot_do_is_refused_by_name(
    transcription_of: StagesOf, name: str, parameters: dict[str, Any], param: str
) -> None:
    """Before anything is computed."""
    with pytest.raises(InvalidInput) as caught:
        transcription_of(name).prepare([wav(SOUNDS[0])], parameters)
    assert caught.value.param == f"parameters.{param}"


def test_a_model_of_english_alone(tmp_path: Path) -> None:
    """It may be told so, and it translates nothing; one whose files know no languages says that of itself."""
    folder = build(WHISPER, tmp_path)
    config = json.loads((folder / "generation_config.json").read_text())
    languages = {name: config.pop(name) for name in ("lang_to_id", "task_to_id")}
    for changed, name in (({"is_multilingual": False, **languages}, "english"), ({}, "")):
        (folder / "generation_config.json").write_text(json.dumps({**config, **changed}))
        stages = load(folder, "automatic-speech-recognition").stages("transcription")
        assert answer(stages, wav(SOUNDS[1]), {"language": "en"} if name else {}).get("language", "") == name
        for parameters, param in (({"translates": True}, "task"), ({"language": "de"}, "language")):
            with pytest.raises(InvalidInput) as caught:
                stages.prepare([wav(SOUNDS[0])], parameters)
            assert caught.value.param == f"parameters.{param}"


def test_ctc_models_take_what_changes_nothing(transcription_of: StagesOf) -> None:
    """Temperature 0, which clients send by themselves."""
    stages, file = transcription_of("wav2vec2-ctc"), wav(SOUNDS[0])
    assert answer(stages, file, {"temperature": 0.0}) == answer(stages, file)


class Reading:
    """A watch that reads along, and by which clients leave after a number of steps."""

    def __init__(self, gone: set[int] = frozenset(), after: int = 0) -> None:  # type: ignore[assignment]
        self.gone, self.after, self.num_steps = gone, after, 0
        self.written: dict[int, list[Advance]] = {}

    def step(self) -> None:
        self.num_steps += 1

    def is_cancelled(self, index: int) -> bool:
        return index in self.gone and self.num_steps > self.after

    def write(self, index: int, tokens: Sequence[int], logprobs: Sequence[float] = ()) -> None:
        ranked = [Ranked(*one) for one in zip(tokens, logprobs, strict=False)]
        self.written.setdefault(index, []).append(Advance(index, tokens, ranked))


def read_along(stages: TranscriptionStages, items: Sequence[Item], parameters: dict[str, Any]) -> list[list[Any]]:
    """The deltas of each window."""
    deltas: list[list[Any]] = []
    for index, item in enumerate(items):
        watch = Reading()
        (output,) = stages.forward([item], watch)
        writer = stages.writer(item, parameters, prompt=0, choice=index)
        steps = [*([one] for one in watch.written.get(0, [])), [Advance(index, output=output)]]
        deltas.append([delta for delta in map(writer.write, steps) if delta is not None])
    return deltas


@pytest.mark.parametrize("name", MODELS)
def test_a_stream_is_the_text(transcription_of: StagesOf, name: str) -> None:
    """Token by token where the model writes, window by window where it does not; the last delta of each says so."""
    stages = transcription_of(name)
    parameters = {} if name.endswith("ctc") else {"has_logprobs": True}
    (items,) = stages.prepare([wav(LONG)], parameters)
    deltas = read_along(stages, items, parameters)
    whole = answer(stages, wav(LONG), parameters)
    assert "".join(one.text for window in deltas for one in window).strip() == whole["text"]
    assert [[one.finish_reason for one in window] for window in deltas] == [
        [None] * (len(window) - 1) + ["stop"] for window in deltas
    ]
    assert [one.choice for window in deltas for one in window][-1] == len(items) - 1
    if parameters:
        assert sum(len(window) for window in deltas) > len(items)
        told = [(one.id, one.logprob) for window in deltas for delta in window for one in delta.tokens]
        assert [id_ for id_, _ in told] == [one["id"] for one in whole["tokens"]]
        assert [lp for _, lp in told] == pytest.approx([one["logprob"] for one in whole["tokens"]], abs=TOLERANCE)
        assert sum(window[-1].num_tokens for window in deltas) == whole["num_tokens"]


@pytest.mark.parametrize("name", [WHISPER, "speech-to-text"])
def test_writing_ends_when_nobody_waits(transcription_of: StagesOf, name: str) -> None:
    """A row whose client leaves is written no further, its neighbours go on; when all leave, the forward ends."""
    stages = transcription_of(name)
    parameters = {"has_segments": True} if name == WHISPER else {}
    items = [item for (item,) in stages.prepare([wav(sound(12, 1))] * 3, parameters)]
    expected = stages.forward(items)
    given = stages.forward(items, Reading({1}, after=2))
    for row in (0, 2):
        assert given[row].tokens == expected[row].tokens
    assert len(given[1].tokens) < len(expected[1].tokens)
    watch = Reading({0, 1, 2}, after=5)
    assert stages.forward(items, watch) == [None] * 3
    assert watch.num_steps == 6
