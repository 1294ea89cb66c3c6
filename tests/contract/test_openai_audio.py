"""OpenAI's routes of sounds on a real server with real workers, driven by its own SDK, sync and async."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import soundfile

from app.tasks.samples import PNG
from tests.media.files import sound_file
from tests.runtime.audio.sounds import sound, wav
from tests.server import RunningServer

WHISPER, CTC, SPEAKER = "whisper", "wav2vec2-ctc", "vits"
SHORT, LONG_S = wav(sound(2, 1)), 36
LONG = wav(sound(LONG_S, 1))
DEPRECATED = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
"""The SDK says so of translations."""
SRT_TIMES = re.compile(r"(\d\d):(\d\d):(\d\d),(\d{3}) --> \d\d:\d\d:\d\d,\d{3}")
VTT_TIMES = re.compile(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}")


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def transcribe(client: openai.OpenAI, file: bytes = SHORT, **more: Any) -> Any:
    """seed: vLLM's, and ours."""
    extra = {"extra_body": {"seed": more.pop("seed")}} if "seed" in more else {}
    return client.audio.transcriptions.create(**{"model": WHISPER, "file": ("sound.wav", file), **extra, **more})


def test_a_sound_is_transcribed(client: openai.OpenAI) -> None:
    """As JSON with the seconds that it lasts, the same as plain text, and by the first model if none is named."""
    answer = transcribe(client, language="en", temperature=0)
    assert answer.text == answer.text.strip() != ""
    assert answer.usage.type == "duration" and answer.usage.seconds == 2
    assert transcribe(client, language="en", response_format="text") == answer.text + "\n"
    assert transcribe(client, model=CTC, file=LONG).text.count(" ") >= 1
    assert isinstance(transcribe(client, model="").text, str)


def test_segments_and_words_have_times(client: openai.OpenAI) -> None:
    """Of a sound longer than Whisper hears at once: segments by default, words if asked for, or both."""
    answer = transcribe(client, LONG, response_format="verbose_json", language="de", temperature=0.5, seed=1)
    assert answer.duration == LONG_S and answer.language == "german" and answer.words is None
    segments = answer.segments
    assert [one.id for one in segments] == list(range(len(segments))) and {one.seek for one in segments} > {0}
    assert all(0 <= one.start <= one.end <= LONG_S and one.temperature == 0.5 for one in segments)
    assert all(one.avg_logprob < 0 and 0 < one.no_speech_prob < 1 and one.compression_ratio > 0 for one in segments)
    assert "".join(one.text for one in segments).strip() == answer.text
    assert answer.usage.seconds == LONG_S
    for granularities in (["word"], ["word", "segment"]):
        told = transcribe(client, response_format="verbose_json", timestamp_granularities=granularities)
        assert told.words and all(one.word and 0 <= one.start <= one.end <= 2 for one in told.words)
        assert bool(told.segments) is ("segment" in granularities)


def test_ctc_models_tell_words_and_segments(client: openai.OpenAI) -> None:
    """Segments are made of words; what the sound is in nobody knows."""
    answer = transcribe(
        client, LONG, model=CTC, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert " ".join(one.word for one in answer.words) == answer.text == " ".join(one.text for one in answer.segments)
    assert answer.language == "unknown" and answer.segments[-1].end <= LONG_S
    assert all(one.tokens and one.avg_logprob < 0 for one in answer.segments)


@pytest.mark.parametrize("model", [WHISPER, CTC])
def test_subtitles_are_plain_text(client: openai.OpenAI, model: str) -> None:
    """SRT numbers its cues, WebVTT begins with its name; both as the SDK's strings."""
    more = {"prompt": "hello", "temperature": 0.5, "seed": 1} if model == WHISPER else {}
    given: dict[str, Any] = {"file": LONG, "model": model, **more}
    cues = transcribe(client, response_format="srt", **given).strip().split("\n\n")
    assert [cue.split("\n")[0] for cue in cues] == [str(number) for number in range(1, len(cues) + 1)]
    assert all(SRT_TIMES.fullmatch(cue.split("\n")[1]) for cue in cues)
    head, *rest = transcribe(client, response_format="vtt", **given).strip().split("\n\n")
    assert head == "WEBVTT" and len(rest) == len(cues) and all(VTT_TIMES.fullmatch(cue.split("\n")[0]) for cue in rest)


@pytest.mark.parametrize("model", [WHISPER, "speech-to-text", CTC])
def test_a_stream_is_the_text_in_pieces(client: openai.OpenAI, model: str) -> None:
    """Token by token where the model writes, else window by window; the last event has all of it, and the usage."""
    more: dict[str, Any] = {"language": "en"} if model == WHISPER else {}
    *deltas, done = transcribe(client, LONG, model=model, stream=True, **more)
    assert [one.type for one in deltas] == ["transcript.text.delta"] * len(deltas)
    assert done.type == "transcript.text.done"
    assert "".join(one.delta for one in deltas) == done.text == transcribe(client, LONG, model=model, **more).text
    assert len(deltas) >= 2
    usage = done.usage
    assert (
        usage.type == "tokens" and usage.input_tokens == LONG_S * 50 and usage.output_tokens >= len(done.text) - 1 > 0
    )
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_log_probabilities_are_told(client: openai.OpenAI) -> None:
    """In one piece and streamed, each token with its bytes."""
    given: dict[str, Any] = {"file": LONG, "include": ["logprobs"], "model": "speech-to-text"}
    whole = transcribe(client, **given)
    assert "".join(one.token for one in whole.logprobs) == whole.text.replace(" ", "")
    assert all(one.logprob <= 0 and bytes(map(int, one.bytes)).decode() == one.token for one in whole.logprobs)
    *deltas, done = transcribe(client, stream=True, **given)
    streamed = [one.logprob for delta in deltas for one in delta.logprobs]
    assert streamed == pytest.approx([one.logprob for one in whole.logprobs], abs=1e-3)
    assert len(done.logprobs) == len(streamed)


def test_vllms_stream_fields_are_honoured(server: RunningServer) -> None:
    """As its benchmark sends them: the usage so far in each event."""
    form = {"model": "speech-to-text", "stream": "True", "stream_include_usage": "true", "max_completion_tokens": "5"}
    with server.client() as http:
        answer = http.post(
            "/v1/audio/transcriptions",
            data={**form, "stream_continuous_usage_stats": "true"},
            files={"file": ("a.wav", SHORT)},
        )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    assert events.pop() == "[DONE]"
    usages = [json.loads(event)["usage"] for event in events]
    counts = [one["output_tokens"] for one in usages]
    assert counts == sorted(counts) and counts[0] < 5 and counts[-2:] == [5, 5]
    assert {one["input_tokens"] for one in usages} == {100}


@DEPRECATED
def test_translation_is_a_text(client: openai.OpenAI) -> None:
    """Whisper's own task: not the text of the transcription; verbose with segments in English."""
    given: Any = {"model": WHISPER, "file": ("sound.wav", LONG)}
    answer = client.audio.translations.create(**given)
    assert answer.text and answer.text != transcribe(client, LONG).text
    verbose: Any = client.audio.translations.create(**given, response_format="verbose_json")
    assert verbose.language == "english" and verbose.duration == LONG_S and verbose.segments
    subtitles: Any = client.audio.translations.create(**given, response_format="vtt")
    assert subtitles.startswith("WEBVTT\n\n")


def read(data: bytes) -> tuple[Any, int]:
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return samples, rate


def say(client: openai.OpenAI, **more: Any) -> bytes:
    given: dict[str, Any] = {
        "model": SPEAKER,
        "input": "a good film about a cat in paris",
        "voice": "alloy",
        "response_format": "wav",
    }
    return client.audio.speech.create(**{**given, "extra_body": {"seed": 1}, **more}).content


def test_speech_has_the_format_that_is_asked_for(client: openai.OpenAI) -> None:
    """mp3 by default; all of them hold the same sound."""
    samples, rate = read(say(client))
    assert rate == 16_000 and np.abs(samples).max() > 0
    starts = {"flac": b"fLaC", "opus": b"OggS", "aac": b"\xff\xf1", "mp3": b""}
    for name, start in starts.items():
        data = say(client, response_format=name)
        assert data.startswith(start)
        if name != "aac":
            assert len(read(data)[0]) / read(data)[1] == pytest.approx(len(samples) / rate, abs=0.1)
    assert len(say(client, response_format="pcm")) / 2 / 24_000 == pytest.approx(len(samples) / rate, abs=0.01)
    answer = client.audio.speech.create(model=SPEAKER, input="a good film", voice={"id": "whoever"})
    assert answer.response.headers["content-type"] == "audio/mpeg"


def test_speed_is_the_time_that_it_takes(client: openai.OpenAI) -> None:
    """From a quarter to four times."""
    plain = len(read(say(client))[0])
    for speed in (0.25, 2, 4):
        assert len(read(say(client, speed=speed))[0]) == round(plain / speed)


def test_speech_comes_as_events(client: openai.OpenAI) -> None:
    """A delta with the sound, and the end with the usage."""
    body = say(client, stream_format="sse").decode()
    delta, done = [json.loads(line.removeprefix("data: ")) for line in body.split("\n") if line]
    assert delta["type"] == "speech.audio.delta" and base64.b64decode(delta["audio"]) == say(client)
    assert done["type"] == "speech.audio.done" and done["usage"]["total_tokens"] > 0


def test_the_async_client_is_answered_too(server: RunningServer) -> None:
    """All at once, streams among them."""

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

            async def streamed() -> str:
                given: dict[str, Any] = {"model": WHISPER, "file": ("a.wav", LONG), "language": "en"}
                parts = [one async for one in await client.audio.transcriptions.create(**given, stream=True)]
                assert parts[-1].type == "transcript.text.done"
                return str(parts[-1].text)

            async def whole() -> str:
                given: dict[str, Any] = {"model": WHISPER, "file": ("a.wav", LONG), "language": "en"}
                return str((await client.audio.transcriptions.create(**given)).text)

            first, *others = await asyncio.gather(whole(), *(streamed() for _ in range(4)))
            assert set(others) == {first}
            spoken = await client.audio.speech.create(model=SPEAKER, input="a good film", voice="alloy")
            assert len(spoken.content) > 100

    asyncio.run(ask())


def test_below_the_models_url(server: RunningServer) -> None:
    """And errors there have OpenAI's shape."""
    with server.client() as http:
        answer = http.post(f"/models/{CTC}/v1/audio/transcriptions", files={"file": SHORT})
        assert answer.json()["text"] and answer.headers["x-model"] == CTC
        assert http.post(f"/models/{SPEAKER}/v1/audio/speech", json={"input": "a"}).content
        refused = http.post(f"/models/{SPEAKER}/v1/audio/speech", json={"input": ""})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "input"


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"file": b""}, "file", "empty"),
    ({"file": PNG}, "file", "image/png"),
    ({"file": b"no sound at all"}, "file", "not a sound"),
    ({"file": SHORT[:60]}, "file", "broken"),
    ({"response_format": "diarized_json"}, "response_format", "who speaks"),
    ({"response_format": "xml"}, "response_format", "json"),
    ({"temperature": 2}, "temperature", "1"),
    ({"language": "klingon"}, "language", "de, en, fr"),
    ({"timestamp_granularities": ["word"]}, "timestamp_granularities", "verbose_json"),
    ({"include": ["logprobs"], "response_format": "text"}, "include", "json"),
    ({"stream": True, "response_format": "srt"}, "stream", "json"),
    ({"chunking_strategy": {"type": "server_vad"}}, "chunking_strategy", "auto"),
    ({"known_speaker_names": ["ada"]}, "known_speaker_names", "speakers"),
    ({"extra_body": {"colour": "red"}}, "colour", "no such"),
    ({"model": CTC, "prompt": "hello"}, "prompt", "Whisper"),
    ({"model": CTC, "include": ["logprobs"]}, "include", "CTC"),
    ({"model": "speech-to-text", "response_format": "vtt"}, "response_format", "times"),
]


@pytest.mark.parametrize(("given", "param", "says"), BAD, ids=[f"{param}: {says}" for _, param, says in BAD])
def test_bad_input_is_named(client: openai.OpenAI, given: dict[str, Any], param: str, says: str) -> None:
    """400, or 415 for a file of another kind, in OpenAI's shape, the same for a stream."""
    for stream in ({}, {"stream": True} if "response_format" not in given else {}):
        with pytest.raises((openai.BadRequestError, openai.APIStatusError)) as raised:
            transcribe(client, **{**stream, **given})
        assert raised.value.status_code == (415 if says == "image/png" else 400)
        assert raised.value.param == param and says in raised.value.message


@DEPRECATED
def test_what_no_model_can_do_is_refused(client: openai.OpenAI) -> None:
    """An unknown model, one of another task, a translation by a model that knows none, a field of a speaker."""
    for model in ("whisper-9", "acme/reviews"):
        with pytest.raises(openai.NotFoundError) as missing:
            transcribe(client, model=model)
        assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as cannot:
        client.audio.translations.create(model=CTC, file=("a.wav", SHORT))
    assert cannot.value.param == "model"
    for field, value in (("speed", 5), ("instructions", "whisper"), ("response_format", "midi"), ("input", "?!")):
        with pytest.raises(openai.BadRequestError) as refused:
            say(client, **{field: value})
        assert refused.value.param == field


def test_media_limits_hold(client: openai.OpenAI) -> None:
    """Of seconds, with both numbers."""
    hours = sound_file(np.zeros(400_000, np.float32), 100)
    with pytest.raises(openai.BadRequestError, match=r"4,000\.0 seconds; the limit is 3,600\.0") as refused:
        transcribe(client, hours)
    assert refused.value.param == "file"
