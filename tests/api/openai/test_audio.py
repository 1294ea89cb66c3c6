"""OpenAI's routes of sounds before a scripted fleet: every field, every format, the order of a stream."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2 as httpx
import msgspec
import pytest

from app.api.openai.audio.bodies import (
    UNUSED_OF_SPEECH,
    UNUSED_OF_TRANSCRIPTIONS,
    UNUSED_OF_TRANSLATIONS,
    SpeechBody,
    TranscriptionBody,
    TranslationBody,
)
from app.errors import BackendFailed
from app.tasks.completion import Delta, Token
from app.tasks.speech import SpeechParameters
from app.tasks.transcription import Segment, Transcription, TranscriptionParameters, Word
from tests.api.conftest import MAX_BODY_BYTES, LiveServer

TRANSCRIPTIONS, TRANSLATIONS, SPEECH = (f"/v1/audio/{name}" for name in ("transcriptions", "translations", "speech"))
MODEL, SPEAKER = "tiny-automatic-speech-recognition", "tiny-text-to-audio"
SOUND = b"the bytes of a sound"
TOLD = Transcription(
    text="good day, ada --> bob",
    duration_s=3661.5,
    language="german",
    segments=(
        Segment(start_s=0.0, end_s=1.25, text=" good day,", tokens=(5, 6), mean_logprob=-0.5, no_speech_prob=0.25),
        Segment(start_s=3600.0, end_s=3661.5, text=" ada\n\n--> bob", seek_s=3590.5),
    ),
    words=(Word("good", 0.0, 0.5), Word("day,", 0.5, 1.25)),
    tokens=(Token(id=5, text=" good", logprob=-0.5), Token(id=6, text="", logprob=-0.25, data=b"\xe2")),
    num_tokens=7,
    num_prompt_tokens=2,
)


def send(server: LiveServer, path: str = TRANSCRIPTIONS, **fields: Any) -> httpx.Response:
    """A form with a file. told: what the fleet answers."""
    server.fleet.transcription = fields.pop("told", TOLD)
    file = fields.pop("file", SOUND)
    return server.client.post(path, data=fields, files={"file": ("sound.wav", file)})


def parameters(server: LiveServer) -> dict[str, Any]:
    (job,) = server.fleet.jobs
    server.fleet.jobs.clear()
    return job.parameters


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


HONOURED: dict[str, tuple[Any, str, Any]] = {
    "language": ("de", "language", "de"),
    "prompt": ("hello", "prompt", "hello"),
    "temperature": ("0.5", "temperature", 0.5),
    "seed": ("3", "seed", 3),
    "top_k": ("5", "top_k", 5),
    "top_p": ("0.5", "top_p", 0.5),
    "repetition_penalty": ("1.5", "repetition_penalty", 1.5),
    "max_completion_tokens": ("7", "max_new_tokens", 7),
    "include[]": ("logprobs", "has_logprobs", True),
}
"""What is sent, the task's parameter that it becomes, and its value there."""
OTHERWISE = {
    *("model", "response_format", "timestamp_granularities", "stream", "stream_include_usage", "keep_alive"),
    "stream_continuous_usage_stats",
}
"""Fields with tests of their own."""


def test_every_field_has_its_place() -> None:
    """Each field of the bodies has a row here, none is honoured and refused at once, no parameter is out of reach."""
    named = {name.removesuffix("[]") for name in HONOURED} | OTHERWISE
    assert set(TranscriptionBody.model_fields) == named
    assert set(TranslationBody.model_fields) <= named
    for body, unused in (
        (TranscriptionBody, UNUSED_OF_TRANSCRIPTIONS),
        (TranslationBody, UNUSED_OF_TRANSLATIONS),
        (SpeechBody, UNUSED_OF_SPEECH),
    ):
        assert not set(body.model_fields) & (set(unused.harmless) | set(unused.refused))
    reached = {name for _, name, _ in HONOURED.values()} | {"translates", "has_segments", "has_words"}
    assert set(TranscriptionParameters.model_fields) == reached
    assert {"voice", "speed", "seed"} <= set(SpeechParameters.model_fields)


@pytest.mark.parametrize("name", HONOURED)
def test_field_is_honoured(server: LiveServer, name: str) -> None:
    """As the task's parameter, and nothing else with it."""
    sent, parameter, value = HONOURED[name]
    assert send(server, **{name: sent}).status_code == 200
    assert parameters(server) == {parameter: value}


@pytest.mark.parametrize(
    ("path", "unused"), [(TRANSCRIPTIONS, UNUSED_OF_TRANSCRIPTIONS), (TRANSLATIONS, UNUSED_OF_TRANSLATIONS)]
)
def test_unused_fields_are_harmless_or_refused_by_name(server: LiveServer, path: str, unused: Any) -> None:
    """Those that are refused have values that change nothing; in brackets or not."""
    for name in unused.harmless:
        assert send(server, path, **{name: "x"}).status_code == 200, name
    for name, (neutral, reason) in unused.refused.items():
        for spelled in (name, f"{name}[]", f"{name}[type]"):
            refused = send(server, path, **{spelled: "something"})
            assert refused.status_code == 400 and error_of(refused)["param"] == name, spelled
            assert reason in error_of(refused)["message"]
        for value in neutral:
            assert send(server, path, **{name: value}).status_code == 200, (name, value)


def test_json_is_the_default(server: LiveServer) -> None:
    """With the duration, and log-probabilities if they are asked for."""
    answer = send(server)
    assert answer.json() == {"text": TOLD.text, "usage": {"type": "duration", "seconds": 3661.5}}
    assert answer.headers["x-model"] == MODEL
    assert parameters(server) == {}
    told = send(server, **{"include[]": "logprobs"}).json()["logprobs"]
    assert told == [
        {"token": " good", "bytes": list(b" good"), "logprob": -0.5},
        {"token": "", "bytes": [0xE2], "logprob": -0.25},
    ]


def test_text_and_subtitles_are_plain(server: LiveServer) -> None:
    """Cues of one line each, without what would look like times; hours are counted on."""
    cues = [
        ("00:00:00,000 --> 00:00:01,250", "good day,"),
        ("01:00:00,000 --> 01:01:01,500", "ada -> bob"),
    ]
    srt = "".join(f"{number}\n{times}\n{text}\n\n" for number, (times, text) in enumerate(cues, start=1))
    vtt = "WEBVTT\n\n" + "".join(f"{times.replace(',', '.')}\n{text}\n\n" for times, text in cues)
    for name, expected in (("text", TOLD.text + "\n"), ("srt", srt), ("vtt", vtt)):
        answer = send(server, response_format=name)
        assert answer.text == expected
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert parameters(server) == ({} if name == "text" else {"has_segments": True})
    assert send(server, response_format="srt", told=Transcription(text="", duration_s=1)).text == ""


def test_verbose_json_has_the_times_that_are_asked_for(server: LiveServer) -> None:
    """Segments by default; words, or both."""
    answer = send(server, response_format="verbose_json", temperature="0.5").json()
    first, second = answer.pop("segments")
    assert answer == {
        "task": "transcribe",
        "language": "german",
        "duration": 3661.5,
        "text": TOLD.text,
        "usage": {"type": "duration", "seconds": 3661.5},
    }
    assert first.pop("compression_ratio") > 0
    assert first == {
        **{"id": 0, "seek": 0, "start": 0, "end": 1.25, "text": " good day,", "tokens": [5, 6]},
        **{"temperature": 0.5, "avg_logprob": -0.5, "no_speech_prob": 0.25},
    }
    assert second["id"] == 1 and second["seek"] == 359050
    assert parameters(server) == {"has_segments": True, "temperature": 0.5}
    for given, wanted in (
        ({"timestamp_granularities[]": "word"}, {"has_words"}),
        ({"timestamp_granularities[]": ["word", "segment"]}, {"has_words", "has_segments"}),
        ({"timestamp_granularities": "word"}, {"has_words"}),
    ):
        told = send(server, response_format="verbose_json", **given).json()
        assert told["words"][1] == {"word": "day,", "start": 0.5, "end": 1.25}
        assert ("segments" in told) is ("has_segments" in wanted)
        assert set(parameters(server)) == wanted
    silent = send(server, response_format="verbose_json", told=Transcription(text="", duration_s=1)).json()
    assert silent["language"] == "unknown" and silent["segments"] == []


def test_translations_are_into_english(server: LiveServer) -> None:
    """The same, but for the task and the fields that the SDK knows of it."""
    assert send(server, TRANSLATIONS).json() == {"text": TOLD.text}
    assert parameters(server) == {"translates": True}
    told = send(server, TRANSLATIONS, response_format="verbose_json").json()
    assert told["language"] == "english" and told["task"] == "translate" and "usage" not in told
    assert parameters(server) == {"translates": True, "has_segments": True}
    assert send(server, TRANSLATIONS, response_format="srt").text.startswith("1\n")


def test_file_and_model_reach_the_job(server: LiveServer) -> None:
    """The file as it is; the model named in the form, the query or the path, all three agreeing."""
    assert send(server, model=MODEL, keep_alive="5m").status_code == 200
    (job,) = server.fleet.jobs
    assert job.inputs == [SOUND] and job.task == "transcription" and job.model_id == MODEL and job.keep_alive_s == 300
    below = send(server, f"/models/{MODEL}{TRANSCRIPTIONS}", model=MODEL)
    assert below.status_code == 200 and below.headers["x-model"] == MODEL
    assert send(server, f"{TRANSCRIPTIONS}?model={MODEL}").status_code == 200
    for given in ({"model": "nobody"}, {"model": "reviews"}):
        missing = send(server, **given)
        assert missing.status_code == 404 and error_of(missing)["code"] == "model_not_found"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"file": b""}, "file"),
    ({"response_format": "xml"}, "response_format"),
    ({"response_format": "diarized_json"}, "response_format"),
    ({"temperature": "warm"}, "temperature"),
    ({"temperature": "nan"}, "temperature"),
    ({"temperature": "1.5"}, "temperature"),
    ({"stream": "perhaps"}, "stream"),
    ({"include[]": "everything"}, "include[0]"),
    (
        {"timestamp_granularities[]": ["word", "letter"], "response_format": "verbose_json"},
        "timestamp_granularities[1]",
    ),
    ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
    ({"include[]": "logprobs", "response_format": "text"}, "include"),
    ({"stream": "true", "response_format": "vtt"}, "stream"),
    ({"language": ["de", "fr"]}, "language"),
    ({"keep_alive": "for ever"}, "keep_alive"),
    ({"colour": "red"}, "colour"),
    ({"prompt[a]": "b"}, "prompt"),
]


@pytest.mark.parametrize(("fields", "param"), BAD, ids=str)
def test_bad_fields_are_named(server: LiveServer, fields: dict[str, Any], param: str) -> None:
    """400 in OpenAI's shape, and no job."""
    answer = send(server, **fields)
    error = error_of(answer)
    assert answer.status_code == 400 and error["type"] == "invalid_request_error" and error["param"] == param, error
    assert not server.fleet.jobs


def test_what_is_no_form_with_one_file_is_refused(server: LiveServer) -> None:
    """JSON, a bare file, a form without a file or with two, a file in another field, a form that is cut, too much."""
    assert server.client.post(TRANSCRIPTIONS, json={"model": MODEL}).status_code == 415
    assert server.client.post(TRANSCRIPTIONS, content=SOUND).status_code == 415
    forms: list[tuple[Any, str]] = [
        ([("file", ("a", SOUND)), ("file", ("b", SOUND))], "file"),
        ([("sound", ("a", SOUND))], "sound"),
    ]
    for files, param in forms:
        answer = server.client.post(TRANSCRIPTIONS, files=files)
        assert answer.status_code == 400 and error_of(answer)["param"] == param
    boundary = "multipart/form-data; boundary=b"
    empty = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nx\r\n--b--\r\n'
    without = server.client.post(TRANSCRIPTIONS, content=empty, headers={"content-type": boundary})
    assert without.status_code == 400 and error_of(without)["param"] == "file"
    broken = server.client.post(TRANSCRIPTIONS, content=b"nonsense", headers={"content-type": "multipart/form-data"})
    assert broken.status_code == 400
    large = send(server, file=b"x" * MAX_BODY_BYTES)
    assert large.status_code == 400 and str(MAX_BODY_BYTES) in error_of(large)["message"]
    assert not server.fleet.jobs


# Streams


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def window(index: int, text: str, num_tokens: int = 0, *, is_last: bool = False, **more: Any) -> Delta:
    end = "stop" if is_last else None
    return Delta(choice=index, text=text, num_tokens=num_tokens, num_prompt_tokens=9, finish_reason=end, **more)


def test_stream_keeps_the_order_of_the_sound(server: LiveServer) -> None:
    """Windows that are written side by side are told one after the other, without spaces at the ends of the whole."""
    server.fleet.deltas = [
        window(0, " good"),
        window(1, " ada"),
        window(2, " bob ", is_last=True),
        window(0, " "),
        window(0, "day,", is_last=True),
        window(1, "", is_last=True),
    ]
    told = Transcription(text="good day, ada bob", duration_s=2.01, num_tokens=7, num_prompt_tokens=2)
    *deltas, done = events_of(send(server, stream="true", told=told))
    assert deltas == [{"type": "transcript.text.delta", "delta": text} for text in ("good", " day,", " ada", " bob")]
    details = {"audio_tokens": 101, "text_tokens": 2}
    usage = {"input_tokens": 103, "input_token_details": details, "output_tokens": 7, "total_tokens": 110}
    assert done == {"type": "transcript.text.done", "text": told.text, "usage": {"type": "tokens", **usage}}


def test_stream_tells_tokens_and_usage_if_asked(server: LiveServer) -> None:
    """Log-probabilities with each delta and at the end; vLLM's running usage counts what was told."""
    token = Token(id=5, text=" good", logprob=-0.5)
    server.fleet.deltas = [
        window(1, " day", 1),
        window(0, " good", 2, tokens=(token,)),
        window(0, "", 3, is_last=True),
        window(1, "", 2, is_last=True),
    ]
    more = {"include[]": "logprobs", "stream_include_usage": "true", "stream_continuous_usage_stats": "True"}
    response = send(server, stream="True", **more)
    first, second, done = events_of(response)
    assert first["logprobs"] == [{"token": " good", "bytes": list(b" good"), "logprob": -0.5}]
    assert response.text.endswith("\n\ndata: [DONE]\n\n")
    assert [one["usage"]["output_tokens"] for one in (first, second)] == [2, 4]
    assert first["usage"]["input_tokens"] == 9
    assert done["logprobs"] == send(server, **{"include[]": "logprobs"}).json()["logprobs"]


def test_stream_fails_as_an_answer_or_as_an_event(server: LiveServer) -> None:
    """By status before the first delta, by an event after it; the param is the form's."""
    server.fleet.error = BackendFailed("broken")
    assert send(server, stream="true").status_code == 500
    server.fleet.deltas, server.fleet.stream_error = [window(0, "good")], BackendFailed("broken")
    body = send(server, stream="true").text
    *_, last = [json.loads(line.removeprefix("data: ")) for line in body.split("\n") if line]
    assert last["error"]["code"] == "backend" and "[DONE]" not in body


# Speech


def say(server: LiveServer, **more: Any) -> httpx.Response:
    return server.post(SPEECH, {"model": SPEAKER, "input": "good day", "voice": "alloy", **more})


def test_speech_has_the_type_of_its_format(server: LiveServer) -> None:
    """mp3 by default; the job makes the file."""
    types = {None: "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "pcm": "audio/pcm"}
    for name, shown in types.items():
        answer = say(server, **({"response_format": name} if name else {}))
        assert answer.status_code == 200 and answer.headers["content-type"] == shown
        (job,) = server.fleet.jobs
        assert job.task == "speech" and job.inputs == ["good day"] and job.parameters == {"voice": "alloy"}
        assert job.media_type == ("audio/opus" if name == "opus" else shown)
        server.fleet.jobs.clear()


def test_speech_fields_are_honoured(server: LiveServer) -> None:
    """Whatever `Accept` says, the format decides."""
    more = {"speed": 2, "seed": 3, "voice": {"id": "v"}, "keep_alive": "5m", "stream_format": "audio", "user": "u"}
    assert say(server, instructions="", **more).status_code == 200
    (job,) = server.fleet.jobs
    assert job.parameters == {"voice": "v", "speed": 2.0, "seed": 3} and job.keep_alive_s == 300
    assert server.post(f"/models/{SPEAKER}{SPEECH}", {"input": "a"}).headers["x-model"] == SPEAKER


def test_speech_comes_as_events(server: LiveServer) -> None:
    """One with the sound, and the end."""
    delta, done = events_of(say(server, stream_format="sse"))
    assert delta["type"] == "speech.audio.delta" and base64.b64decode(delta["audio"])
    assert done == {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 5, "output_tokens": 0, "total_tokens": 5},
    }
    server.fleet.error = BackendFailed("broken")
    assert say(server, stream_format="sse").status_code == 500


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"speed": 0.2}, "speed"),
        ({"speed": 5}, "speed"),
        ({"response_format": "midi"}, "response_format"),
        ({"stream_format": "ws"}, "stream_format"),
        ({"voice": 3}, "voice"),
        ({"voice": {"name": "x"}}, "voice.id"),
        ({"instructions": "whisper"}, "instructions"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_bad_fields_of_speech_are_named(server: LiveServer, fields: dict[str, Any], param: str) -> None:
    """400 in OpenAI's shape."""
    answer = say(server, **fields)
    assert answer.status_code == 400 and error_of(answer)["param"] == param, answer.text
    assert not server.fleet.jobs


def test_the_document_has_the_forms(server: LiveServer) -> None:
    """The file is required; speech answers sounds."""
    paths = server.get("/openapi.json").json()["paths"]
    for path in (TRANSCRIPTIONS, TRANSLATIONS, f"/models/{{model_id}}{TRANSCRIPTIONS}"):
        form = paths[path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        form = server.get("/openapi.json").json()["components"]["schemas"][form["$ref"].rpartition("/")[2]]
        assert form["required"] == ["file"] and form["properties"]["file"]["format"] == "binary"
    assert "text/event-stream" in paths[TRANSCRIPTIONS]["post"]["responses"]["200"]["content"]
    assert "text/event-stream" not in paths[TRANSLATIONS]["post"]["responses"]["200"]["content"]
    assert {"audio/mpeg", "audio/ogg"} <= set(paths[SPEECH]["post"]["responses"]["200"]["content"])


def test_transcription_survives_its_encoding() -> None:
    """What the worker encodes, the API process reads."""
    assert msgspec.json.decode(msgspec.json.encode(TOLD), type=Transcription) == TOLD
